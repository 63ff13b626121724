import pytest
import torch
from torch import nn

from search.errors import UserError
from search.methods import compress, load_trained
from search.spec import ModelSpec
from search.trial import Trial, workbench

NET = ModelSpec(name="tests.search.methods.test_channels:net")


def net(*, num_classes: int, in_channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(in_channels, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, groups=16),
        nn.Conv2d(16, 24, 1),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(96, num_classes),
    )


def weights_of(model):
    return sum(p.numel() for p in model.parameters() if p.dim() > 1)


@pytest.fixture
def bench(make_config, tiny_data):
    def build(**changes):
        config = make_config("channels", **{"model": NET, "ratio": 4.0, **changes})
        return workbench(config, tiny_data, torch.device("cpu"))

    return build


@pytest.mark.parametrize("scorer", ["rand", "mag", "snip", "grasp", "synflow"])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_a_saved_model_is_built_again_from_its_file(bench, tmp_path, tiny_data, scorer, scope):
    one = bench(args={"scorer": scorer, "scope": scope})
    result = compress(one)
    assert weights_of(one.build(1.0)) / weights_of(result.model) == pytest.approx(4, rel=0.25)
    images = torch.randn(5, *tiny_data.shape)
    result.model.train()(images)  # running statistics that are not those of a fresh model
    result.save(tmp_path / "m")
    assert (tmp_path / "m").stat().st_size == result.stored_bytes
    assert result.virtual_size == weights_of(one.build(1.0))
    assert result.stored_parameters == sum(p.numel() for p in result.model.parameters())
    loaded = load_trained(one, tmp_path / "m")
    assert torch.equal(loaded(images), result.model.eval()(images))


def test_the_row_shows_what_cutting_saves_and_masks_do_not(make_config, tiny_data):
    rows = {}
    for method in ("dense", "channels", "mag", "rps"):
        trial = Trial(make_config(method, ratio=1.0 if method == "dense" else 4.0, model=NET), tiny_data, threads=1)
        while not trial.done:
            trial.step()
        result = trial.finish()
        rows[method] = result.row
        assert result.row["latency_ms"] > 0
    assert rows["mag"]["flops"] == rows["rps"]["flops"] == rows["dense"]["flops"]
    assert rows["channels"]["flops"] < rows["dense"]["flops"] / 2
    assert rows["channels"]["stored_parameters"] < rows["dense"]["stored_parameters"] / 2


def test_the_floor_is_kept(bench):
    model = compress(bench(args={"floor": 9}, ratio=1.8)).model
    assert min(model[0].out_channels, model[4].out_channels) >= 9


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"budgets": {"0": 20}}, "channels are cut by the ratio alone, .* but got budgets for 0: leave them out"),
        ({"args": {"scorer": "erk"}}, "unknown value 'erk'.* rand"),
        ({"args": {"scorer": "snap"}}, "did you mean 'snip'"),
        ({"args": {"scope": "block"}}, "scope: unknown value 'block'.* global"),
        ({"args": {"flor": 1}}, "did you mean 'floor'"),
        ({"ratio": 1000.0}, "must be reachable by cutting channels"),
        ({"model": ModelSpec(args={"hidden": []})}, "channels that may be cut must exist"),
    ],
)
def test_what_cannot_be_cut_is_said_in_one_sentence(bench, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        compress(bench(**changes))


def test_a_file_of_another_method_is_refused(bench, tmp_path):
    one = bench()
    plain = compress(bench(ratio=2.0))
    plain.save(tmp_path / "m")
    with pytest.raises(UserError, match="holds another architecture than"):
        load_trained(bench(model=ModelSpec()), tmp_path / "m")
    from baselines import save_sparse

    save_sparse(one.build(1.0), tmp_path / "dense")
    with pytest.raises(UserError, match="of a model without cut channels"):
        load_trained(one, tmp_path / "dense")
