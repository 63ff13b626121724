import json

import pytest
import torch
from safetensors.torch import save

from search.training.checkpoint import CheckpointError, from_bytes, to_bytes


def test_tensors_and_facts_come_back_as_they_were():
    shared = torch.arange(6.0)
    tensors = {"a": shared, "b": shared.view(2, 3), "c": torch.tensor(3), "d": torch.ones(2, dtype=torch.bfloat16)}
    facts = {"epoch": 3, "loss": 0.1, "history": [{"x": 1}]}
    found, said = from_bytes(to_bytes(tensors, facts))
    assert said == facts
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor)
        assert found[name].dtype == tensor.dtype


WHOLE = to_bytes({"a": torch.arange(100.0)}, {"epoch": 1})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"short",
        WHOLE[:50],
        WHOLE[:-8],
        b"\x80\x04" + WHOLE,
        save({"a": torch.ones(1)}),
        save({"a": torch.ones(1)}, metadata={"version": "99", "facts": json.dumps({})}),
        save({"a": torch.ones(1)}, metadata={"version": "0", "facts": json.dumps({})}),
    ],
    ids=["empty", "short", "cut in the header", "cut at the end", "shifted", "foreign", "newer", "older"],
)
def test_what_is_no_whole_checkpoint_is_refused(data):
    with pytest.raises(CheckpointError):
        from_bytes(data)
