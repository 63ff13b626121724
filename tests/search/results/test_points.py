import math
from datetime import UTC, datetime

import numpy as np
import pytest
from scipy.stats import t as student

from search.errors import UserError
from search.results import Folder, ResultStore
from search.results.parts import rows_to_table
from search.results.points import check_measures, drawable, points


def test_seeds_are_averaged_with_students_interval(trial) -> None:
    accuracies = [0.70, 0.72, 0.77]
    rows = [
        trial(
            i,
            number=0,
            repeat=i,
            accuracy_val=a,
            accuracy=0.6,
            stored_bytes=100 + i,
            finished_at=datetime(2026, 1, 3 - i, tzinfo=UTC),
        )
        for i, a in enumerate(accuracies)
    ]
    (point,) = points(rows_to_table("trials", rows)).to_pylist()
    half = student.ppf(0.975, 2) * np.std(accuracies, ddof=1) / math.sqrt(3)
    assert point["seeds"] == 3
    assert point["accuracy_val"] == pytest.approx(0.73)
    assert (point["accuracy_val_low"], point["accuracy_val_high"]) == pytest.approx((0.73 - half, 0.73 + half))
    assert (point["accuracy_low"], point["accuracy_high"]) == (None, None)  # all three agree
    assert point["stored_bytes"] == 101
    assert point["trial_id"] == rows[0]["trial_id"]
    assert point["finished_at"] == datetime(2026, 1, 3, tzinfo=UTC)


def test_two_folders_are_two_searches_even_under_one_name(tmp_path, trial) -> None:
    """Searches of one name and different seeds both have a proposal 0, and nothing but the number in common."""
    stores = [ResultStore(Folder(tmp_path / name)) for name in "ab"]
    for first, store in zip((0, 100), stores, strict=True):
        store.append("trials", [trial(first + repeat, number=0, repeat=repeat) for repeat in range(2)])
    stores[1].append("trials", [trial(0, number=0)])  # a row that was copied counts where it was read first
    found = points(drawable(stores))
    assert found["trial_id"].to_pylist() == [trial(0)["trial_id"], trial(100)["trial_id"]]
    assert found["seeds"].to_pylist() == [2, 2]
    assert points(drawable(stores[:1])).equals(found.slice(0, 1))


def test_one_seed_has_no_interval_and_other_labels_are_other_points(trial) -> None:
    rows = [
        trial(0),
        trial(1, number=0, experiment="f"),
        trial(2, number=None),
        trial(3, number=None, finished_at=None),
    ]
    found = points(rows_to_table("trials", rows))
    assert found["seeds"].to_pylist() == [1] * 4
    assert found["accuracy_low"].null_count == 4
    assert found["finished_at"].null_count == 1


def test_what_cannot_be_drawn_is_left_out(trial) -> None:
    rows = [
        trial(0),
        trial(1, status="failed", accuracy=None),
        trial(2, status="pruned"),
        trial(3, accuracy=math.nan),
        trial(4, accuracy_val=math.inf),
        trial(5, accuracy_val=None),
        trial(6, stored_bytes=None),
        trial(7, stored_bytes=0),
        trial(8, stored_bytes=-5),
    ]
    assert points(rows_to_table("trials", rows))["number"].to_pylist() == [0]
    assert points(rows_to_table("trials", rows), ["flops"]).num_rows == 0
    assert points(rows_to_table("trials", [])).num_rows == 0


def test_a_broken_seed_does_not_take_its_point_along(trial) -> None:
    rows = [trial(0, number=7), trial(1, number=7, status="failed"), trial(2, number=7, accuracy=math.nan)]
    assert points(rows_to_table("trials", rows))["seeds"].to_pylist() == [1]


@pytest.mark.parametrize(
    ("measures", "message"),
    [
        (["stored_byte"], "unknown measure 'stored_byte': did you mean 'stored_bytes'"),
        ([], "one to three different measures"),
        (["flops", "flops"], "one to three different measures"),
        (["flops", "latency_ms", "stored_bytes", "stored_parameters"], "one to three"),
    ],
)
def test_measures_are_checked(measures: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_measures(measures)


def test_missing_labels_are_a_label_of_their_own(trial) -> None:
    rows = [
        trial(0),
        trial(1, number=0, model=None),
        trial(2, number=0, model=None),
        trial(3, status="failed", method=None),
    ]
    table = rows_to_table("trials", rows)
    encoded = table.set_column(table.column_names.index("model"), "model", table["model"].dictionary_encode())
    for trials in (table, encoded):
        found = points(trials)
        assert found.select(["model", "seeds"]).to_pylist() == [
            {"model": "resnet20", "seeds": 1},
            {"model": None, "seeds": 2},
        ]


def test_far_apart_numbers_are_grouped_as_well(trial) -> None:
    rows = [trial(0, number=2**40), trial(1, number=5), trial(2, number=2**40)]
    assert points(rows_to_table("trials", rows)).select(["number", "seeds"]).to_pylist() == [
        {"number": 5, "seeds": 1},
        {"number": 2**40, "seeds": 2},
    ]


def test_a_number_that_no_float_holds_is_rounded(trial) -> None:
    (point,) = points(rows_to_table("trials", [trial(0, stored_bytes=2**62 + 1)])).to_pylist()
    assert point["stored_bytes"] == 2.0**62


def test_no_interval_leaves_what_an_accuracy_can_be(trial):
    rows = [trial(0, number=1, accuracy=0.1), trial(1, number=1, repeat=1, accuracy=0.9)]
    (point,) = points(rows_to_table("trials", rows)).to_pylist()
    assert (point["accuracy_low"], point["accuracy"], point["accuracy_high"]) == (0, 0.5, 1)
