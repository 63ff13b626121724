import math

import pytest

from search.proposing import constraint_values, is_feasible
from search.spec import ObjectiveSpec

LIMITS = ObjectiveSpec(max_bytes="100kB", min_accuracy=0.5, max_latency_ms=10)


def test_no_constraint_has_no_value():
    assert constraint_values(ObjectiveSpec(), stored_bytes=1e9, accuracy=0.0) == ()
    assert is_feasible(())


def test_each_limit_is_met_exactly_at_its_value():
    assert constraint_values(LIMITS, stored_bytes=100_000, accuracy=0.5, latency_ms=10) == (0.0, 0.0, 0.0)
    assert is_feasible((0.0, 0.0, 0.0))


def test_what_misses_a_limit_is_above_zero():
    values = constraint_values(LIMITS, stored_bytes=200_000, accuracy=0.4, latency_ms=5)
    assert values == pytest.approx((math.log(2), 0.1, -math.log(2)))
    assert not is_feasible(values)


def test_what_was_stopped_early_misses_a_limit_and_what_was_not_meets_it():
    early, late, end = (
        constraint_values(ObjectiveSpec(), stored_bytes=1, accuracy=1, trained=t) for t in (0.1, 0.5, 1)
    )
    assert early > late > (0,) > end
    assert constraint_values(LIMITS, stored_bytes=1, accuracy=1, latency_ms=1, trained=0.5)[3] == pytest.approx(
        math.log(2)
    )


def test_a_limited_latency_must_be_measured():
    with pytest.raises(ValueError, match="max_latency_ms needs latency_ms"):
        constraint_values(LIMITS, stored_bytes=1, accuracy=1)
