import pytest
import torch

from search.spec import ModelSpec
from search.training.undo import Undo
from search.trial import Trial

CONVOLUTIONS = ModelSpec(name="tests.search.training.test_packed:convolutions")


@pytest.mark.parametrize("epochs_before", [0, 1])
@pytest.mark.parametrize("changes", [{}, {"model": CONVOLUTIONS}])
def test_an_epoch_that_is_undone_leaves_no_trace(make_config, tiny_data, changes, epochs_before):
    trainer = Trial(make_config("rand", **changes), tiny_data, threads=1).trainer
    for _ in range(epochs_before):
        trainer.run_epoch()
    before, expected = Undo([trainer]), trainer.tensors()
    expected = {name: tensor.clone() for name, tensor in expected.items()}
    trainer.run_epoch()
    before.put_back()
    after = trainer.tensors()
    assert after.keys() == expected.keys()  # momentum among them, if there was any
    assert all(torch.equal(after[name], tensor) for name, tensor in expected.items())
    assert all(parameter.grad is None for parameter in trainer.parameters)
