import pytest
import torch

from search.training.undo import Undo
from search.trial import Trial


@pytest.mark.parametrize("epochs_before", [0, 1])
def test_an_epoch_that_is_undone_leaves_no_trace(make_config, tiny_data, epochs_before):
    trainer = Trial(make_config("rand"), tiny_data, threads=1).trainer
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
