"""What a trial says reaches the library that does it."""

import pytest
import torch

from baselines import ChannelConfig, PruneConfig, masks_of, prune_, prune_channels_, sparse_summary
from rps_core import RPSConfig, compress_
from search.errors import UserError
from search.methods import compress
from search.spec import TrainSpec
from search.trial import build, workbench

CPU = torch.device("cpu")


@pytest.mark.parametrize("args", [{}, {"scope": "layer"}, {"floor": 20}])
@pytest.mark.parametrize("budgets", [None, {"fc1": 12}])
def test_pruning_takes_seed_scope_floor_and_budgets(make_config, tiny_data, args, budgets):
    config = make_config("rand", ratio=8.0, seed=4, args=args, budgets=None if "floor" in args else budgets)
    masks = masks_of(compress(workbench(config, tiny_data, CPU)).model)
    wanted = PruneConfig("rand", ratio=8.0, seed=4, budgets=config.budgets or {}, allow_empty=True, **args)
    expected = masks_of(prune_(build(config, tiny_data), wanted))
    assert masks.keys() == expected.keys()
    assert all(torch.equal(masks[name], mask) for name, mask in expected.items())


@pytest.mark.parametrize(
    "args", [{}, {"init_std": 0.5}, {"mapping": "roast"}, {"gradient_scaling": "none"}, {"psi_dtype": "int8"}]
)
def test_sharing_takes_seed_and_arguments(make_config, tiny_data, args):
    config = make_config("rps", seed=5, args=args, budgets={"fc1": 60})
    model = compress(workbench(config, tiny_data, CPU)).model
    wanted = RPSConfig(ratio=4.0, seed=5, budgets={"fc1": 60}, **args)
    assert model._rps_sharing.config == wanted
    expected = compress_(build(config, tiny_data), wanted)
    assert all(torch.equal(tensor, expected.state_dict()[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("rewind", ["weights", "learning_rate"])
def test_tickets_take_rounds_rewinding_and_budgets(make_config, tiny_data, rewind):
    args = {"rounds": 2, "rewind_epochs": 1, "rewind": rewind}
    config = make_config("ltr", ratio=16.0, seed=5, args=args, train=TrainSpec(epochs=3), budgets={"fc2": 12})
    ticket = compress(workbench(config, tiny_data, CPU))
    assert ticket.rounds == 3
    early = ticket.model[1].weight.detach() + 1.0
    ticket.model[1].weight.data += 1.0
    ticket.after_epoch(1)
    ticket.model[1].weight.data *= 2.0
    ticket.after_epoch(2)
    assert ticket.next_round() == 1
    kept = ticket.model[1].weight_mask.bool()
    factor = 1.0 if rewind == "weights" else 2.0
    assert torch.equal(ticket.model[1].weight, early * factor * kept)
    assert sparse_summary(ticket.model).kept_by_layer == {"fc1": 36 * 16 // 4, "fc2": 24}


def test_a_ticket_from_the_beginning_rewinds_to_the_beginning(make_config, tiny_data):
    config = make_config("ltr", args={"rounds": 1})
    ticket, expected = compress(workbench(config, tiny_data, CPU)), build(config, tiny_data)
    ticket.model[1].weight.data *= 2.0
    assert ticket.next_round() == 0
    assert torch.equal(ticket.model[1].weight, expected[1].weight * ticket.model[1].weight_mask)


@pytest.mark.parametrize("ratio", [2.0, 5.0])
def test_a_small_model_has_the_parameters_that_the_ratio_leaves(make_config, tiny_data, ratio):
    config = make_config("small", ratio=ratio)
    full = sum(p.numel() for p in build(config, tiny_data).parameters())
    small = compress(workbench(config, tiny_data, CPU))
    # A hidden unit more or less: 36 weights to it, a bias, and 3 from it.
    assert abs(small.stored_parameters - full / ratio) <= 40 / 2


@pytest.mark.parametrize(("fraction", "rounds"), [(0.5, 2), (0.75, 1)])
def test_tickets_take_as_many_rounds_as_the_fraction_needs(make_config, tiny_data, fraction, rounds):
    config = make_config("ltr", ratio=4.0, args={"fraction": fraction})
    assert compress(workbench(config, tiny_data, CPU)).rounds == rounds + 1


def test_sharing_starts_from_the_nearest_where_it_is_told_to(make_config, tiny_data):
    config = make_config("rps", ratio=1.0, args={"start": "nearest"})
    model, fresh = compress(workbench(config, tiny_data, CPU)).model, build(config, tiny_data)
    assert torch.allclose(model[1].weight, fresh[1].weight, atol=1e-6)


def test_channels_take_the_seed_and_refuse_excluded_layers(make_config, tiny_data):
    config = make_config("channels", seed=5, args={"scorer": "rand"})
    expected = build(config, tiny_data)
    wanted = ChannelConfig("rand", ratio=4.0, seed=5)
    prune_channels_(expected, wanted, example_input=torch.zeros(1, 1, 6, 6))
    assert torch.equal(compress(workbench(config, tiny_data, CPU)).model[1].weight, expected[1].weight)
    excluding = make_config("channels", model=config.model.model_copy(update={"exclude": ["fc1"]}))
    with pytest.raises(UserError, match=r"model\.exclude names fc1"):
        compress(workbench(excluding, tiny_data, CPU))
