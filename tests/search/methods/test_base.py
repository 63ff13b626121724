"""What a trial makes of the methods that a user brings."""

import json

import numpy as np
import pytest
import torch

from search.errors import UserError
from search.methods import Compressed, Workbench, compress
from search.trial import Trial, workbench


def counting(bench: Workbench) -> Compressed:
    return Compressed(
        bench.build(1.0),
        virtual_size=np.int64(10),
        stored_parameters=torch.tensor(7),
        stored_bytes=np.float64(28),
        save=lambda model, path: path.write_bytes(b""),
    )


def bare(bench: Workbench) -> torch.nn.Module:
    return bench.build(1.0)


def refusing(bench: Workbench, *, value: str = "a") -> Compressed:
    raise TypeError(f"value must be a number, but got {value!r}")


def test_counts_of_any_kind_of_number_are_those_of_json_and_the_tables(make_config, tiny_data) -> None:
    row = Trial(make_config(f"{__name__}:counting"), tiny_data, threads=1).partial_row()
    counts = {name: row[name] for name in ("virtual_size", "stored_parameters", "stored_bytes")}
    assert json.loads(json.dumps(counts)) == {"virtual_size": 10, "stored_parameters": 7, "stored_bytes": 28}
    assert all(type(count) is int for count in counts.values())


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        ("bare", r"method '.*:bare' must return search\.methods\.Compressed, but got "),
        ("refusing", r"method '.*:refusing': value must be a number, but got 'a'"),
    ],
)
def test_what_a_method_does_wrong_is_said_in_one_sentence(method, sentence, make_config, tiny_data) -> None:
    config = make_config(f"{__name__}:{method}")
    with pytest.raises(UserError, match=sentence):
        compress(workbench(config, tiny_data, torch.device("cpu")))
