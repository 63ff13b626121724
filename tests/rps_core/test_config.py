import copy
import dataclasses
import pickle

import pytest

from rps_core import RPSConfig


def test_is_frozen_and_copies_what_it_is_given():
    budgets = {"fc": 0.5}
    config = RPSConfig(ratio=4, include=["a", "b"], budgets=budgets)
    budgets["fc"] = 0.1
    assert config.budgets == {"fc": 0.5}
    assert config.include == ("a", "b")
    assert pickle.loads(pickle.dumps(config)) == copy.deepcopy(config) == config
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.ratio = 2


@pytest.mark.parametrize(
    ("field", "value", "error", "message"),
    [
        ("ratio", 0.5, ValueError, "ratio >= 1"),
        ("ratio", float("nan"), ValueError, "ratio >= 1"),
        ("ratio", "10", TypeError, "ratio must be a number"),
        ("mapping", "randomfold", ValueError, "did you mean 'random_fold'"),
        ("gradient_scaling", "effective", ValueError, "gradient_scaling must be one of"),
        ("gradient_scaling", "load_power(3)", ValueError, "0 <= a <= 2"),
        ("gradient_scaling", "load_power(1e)", ValueError, "gradient_scaling must be one of"),
        ("gradient_scaling", 0.5, ValueError, "gradient_scaling must be one of"),
        ("seed", -1, ValueError, "0 <= seed"),
        ("seed", 2**63, ValueError, "0 <= seed"),
        ("seed", 1.0, TypeError, "seed must be an integer"),
        ("init_std", 0, ValueError, "init_std > 0"),
        ("init_std", float("inf"), ValueError, "init_std > 0"),
        ("init_std", "1", TypeError, "init_std must be a number"),
        ("include", "conv*", TypeError, "include must be a sequence of patterns"),
        ("exclude", [1], TypeError, "exclude must be a sequence of patterns"),
        ("exclude", None, TypeError, "exclude must be a sequence of patterns"),
        ("include", 3, TypeError, "include must be a sequence of patterns"),
        ("include", (name for name in "ab"), TypeError, "include must be a sequence of patterns"),
        ("budgets", [("fc", 1)], TypeError, "budgets must map patterns"),
        ("budgets", {1: 0.5}, TypeError, "budgets must map patterns"),
        ("psi_dtype", "int4", ValueError, "psi_dtype must be one of"),
    ],
)
def test_refuses(field, value, error, message):
    with pytest.raises(error, match=message):
        RPSConfig(**{field: value})
