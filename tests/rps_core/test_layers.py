import copy
import pickle

import pytest
import torch
from torch import nn

from rps_core import (
    RPSConfig,
    compress_,
    compression_summary,
    load_compressed,
    project_,
    save_compressed,
    to_dense,
)
from rps_core.layers import find_candidates, select
from rps_core.theory import recovery_matrix


def names(model, include=None, exclude=()):
    return [candidate.name for candidate in select(model, include, exclude)]


class Gated(nn.Module):
    """A user's module with parameters of its own."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Parameter(torch.randn(4, 6))
        self.gain = nn.Parameter(torch.randn(6))
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        return self.out((x * self.gain) @ self.mix.T)


LAYERS = {
    "linear": (lambda: nn.Linear(6, 4), (3, 6)),
    "bilinear": (lambda: nn.Bilinear(3, 3, 4), None),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, groups=2), (2, 4, 9)),
    "conv2d": (lambda: nn.Conv2d(4, 6, 3, stride=2, dilation=2, padding_mode="circular", padding=1), (2, 4, 9, 9)),
    "conv3d": (lambda: nn.Conv3d(2, 3, 2), (2, 2, 4, 4, 4)),
    "conv_transpose1d": (lambda: nn.ConvTranspose1d(4, 6, 3), (2, 4, 5)),
    "conv_transpose2d": (lambda: nn.ConvTranspose2d(4, 6, 3, output_padding=1, stride=2), (2, 4, 5, 5)),
    "conv_transpose3d": (lambda: nn.ConvTranspose3d(2, 3, 2), (2, 2, 3, 3, 3)),
}


@pytest.mark.parametrize("mapping", ["random_fold", "roast"])
@pytest.mark.parametrize("kind", sorted(LAYERS))
def test_every_layer_computes_with_recovered_weights(kind, mapping):
    make, shape = LAYERS[kind]
    layer = compress_(make(), RPSConfig(ratio=3, mapping=mapping))
    args = (torch.randn(2, 3), torch.randn(2, 3)) if shape is None else (torch.randn(shape),)
    dense = to_dense(layer)
    assert type(dense) is type(make())
    assert torch.equal(layer(*args), dense(*args))
    layer(*args).sum().backward()
    dense(*args).sum().backward()
    group = layer._rps_sharing.arrays[0].group
    expected = group.fold([dense.weight.grad], (0,), scaled=True)
    torch.testing.assert_close(layer.psi_0.grad, expected)
    assert isinstance(layer, type(dense))


@pytest.mark.parametrize("sizes", [{}, {"kdim": 5, "vdim": 3}])
def test_attention_shares_its_projections(sizes):
    attention = nn.MultiheadAttention(8, 2, batch_first=True, add_bias_kv=True, **sizes)
    shared = {"q_proj_weight", "k_proj_weight", "v_proj_weight"} if sizes else {"in_proj_weight"}
    assert set(names(attention)) == shared | {"out_proj"}
    compress_(attention, RPSConfig(ratio=2))
    q, k, v = torch.randn(2, 3, 8), torch.randn(2, 4, sizes.get("kdim", 8)), torch.randn(2, 4, sizes.get("vdim", 8))
    out = attention(q, k, v)[0]
    torch.testing.assert_close(out, to_dense(attention)(q, k, v)[0])
    out.sum().backward()
    assert attention.psi_0.grad.abs().sum() > 0


@pytest.mark.parametrize("training", [True, False])
def test_transformer_layers_take_their_fast_path_too(training):
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    compress_(layer, RPSConfig(ratio=4)).train(training)
    x = torch.randn(2, 5, 8)
    with torch.set_grad_enabled(training):
        torch.testing.assert_close(layer(x), to_dense(layer)(x))


def test_padding_stays_zero_and_does_not_count():
    table = nn.Embedding(10, 4, padding_idx=3)
    compress_(table, RPSConfig(ratio=2))
    assert not table.weight[3].any()
    table(torch.tensor([3, 3, 1])).sum().backward()
    group = table._rps_sharing.arrays[0].group
    assert int(group.slot_sums()[0].sum()) == 36
    summed = group.fold([torch.ones(10, 4)], (0,))
    without = torch.ones(10, 4)
    without[3] = 0
    torch.testing.assert_close(summed, group.fold([without], (0,)))


def test_the_scale_of_a_table_is_that_of_its_rows_without_the_padding():
    table = nn.Embedding(4, 3, padding_idx=1)
    nn.init.constant_(table.weight, 0.5)
    table.weight.detach()[1] = 0.0
    (layer,) = compress_(table, RPSConfig(ratio=2, init_std=2.0))._rps_sharing.arrays[0].group.layers
    assert layer.scale == 0.25


class Tied(nn.Module):
    """An embedding that pads, its weight tied to another module's."""

    def __init__(self, other):
        super().__init__()
        self.embed, self.other = nn.Embedding(10, 4, padding_idx=3), other
        self.other.weight = self.embed.weight

    def forward(self, tokens):
        x = self.embed(tokens)
        return x + self.other(tokens) if isinstance(self.other, nn.Embedding) else self.other(x)


@pytest.mark.parametrize("filled", [True, False])
@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Embedding(10, 4, padding_idx=3),
        lambda: Tied(nn.Linear(4, 10, bias=False)),
        lambda: Tied(nn.Embedding(10, 4)),
        lambda: Tied(nn.Embedding(10, 4, padding_idx=7)),
    ],
)
def test_a_row_of_padding_that_is_filled_or_tied_shares_as_any_other(make, filled, tmp_path):
    dense, tokens = make(), torch.arange(10)
    (weight,) = dense.parameters()
    weight.detach()[[3, 7]] = 10.0 if filled else 0.0
    expected = dense(tokens)
    same = project_(copy.deepcopy(dense), RPSConfig(ratio=1))
    torch.testing.assert_close(same(tokens), expected)
    save_compressed(same, tmp_path / "m")
    assert torch.equal(load_compressed(tmp_path / "m", make())(tokens), same(tokens))
    shared = project_(dense, RPSConfig(ratio=3))._rps_sharing.arrays[0]
    apart = not filled and isinstance(dense, nn.Embedding)
    assert shared.group.layers[0].padding == (3 if apart else None)
    rows = recovery_matrix(shared.group)
    best = torch.linalg.lstsq(rows, weight.detach().double().view(-1, 1)).solution
    torch.testing.assert_close(shared.psi.double(), best.view(-1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [lambda: nn.Embedding(12, 4), lambda: nn.EmbeddingBag(12, 4, mode="sum")])
def test_tables(make):
    table = compress_(make(), RPSConfig(ratio=2, mapping="roast"))
    tokens = torch.randint(0, 12, (3, 5))
    assert table._rps_sharing.arrays[0].group.layers[0].block.table
    torch.testing.assert_close(table(tokens), to_dense(table)(tokens))


def test_sparse_gradients_of_tables():
    dense, sparse = nn.Embedding(12, 4), nn.Embedding(12, 4, sparse=True)
    sparse.load_state_dict(dense.state_dict())
    tokens = torch.tensor([1, 5, 5])
    for table in (dense, sparse):
        compress_(table, RPSConfig(ratio=2))(tokens).square().sum().backward()
    torch.testing.assert_close(sparse.psi_0.grad, dense.psi_0.grad)


def test_tied_weights_count_once_and_stay_tied(transformer):
    layers = names(transformer)
    assert "embed" in layers
    assert "head" not in layers
    compress_(transformer, RPSConfig(ratio=4))
    assert torch.equal(transformer.head.weight, transformer.embed.weight)
    dense = to_dense(transformer)
    assert dense.head.weight is dense.embed.weight
    tokens = torch.randint(0, 40, (2, 7))
    torch.testing.assert_close(transformer(tokens), dense(tokens))


def test_a_module_used_twice_counts_once(resnet):
    compress_(resnet, RPSConfig(ratio=4))
    images = torch.randn(2, 3, 6, 6)
    dense = to_dense(resnet)
    for model in (resnet, dense):
        model(images).square().sum().backward()
    group = resnet._rps_sharing.arrays[0].group
    grads = [dense.conv1.weight.grad, dense.conv2.weight.grad, dense.fc.weight.grad]
    torch.testing.assert_close(resnet.psi_0.grad, group.fold(grads, (0, 1, 2), scaled=True))


def test_a_module_under_two_names_counts_once():
    inner = nn.Linear(4, 4)
    model = compress_(nn.Sequential(inner, nn.ReLU(), inner), RPSConfig(ratio=2))
    assert compression_summary(model).virtual_size == 16
    assert model[0] is model[2]
    assert torch.equal(to_dense(model)(torch.ones(1, 4)), model(torch.ones(1, 4)))


def test_patterns_reach_a_user_s_own_parameters():
    assert names(Gated()) == ["out"]
    assert names(Gated(), include=["*"]) == ["mix", "out"]
    assert names(Gated(), include=["gain", "out"]) == ["gain", "out"]
    model = compress_(Gated(), RPSConfig(ratio=2, include=["mix", "gain"]))
    assert "out.weight" in dict(model.named_parameters())
    x = torch.randn(3, 6)
    torch.testing.assert_close(model(x), to_dense(model)(x))


def test_recurrent_layers_by_pattern():
    x = torch.randn(5, 2, 8)
    dense = nn.LSTM(8, 6, 2, bidirectional=True)
    expected = dense(x)[0]
    shared = project_(dense, RPSConfig(ratio=1, include=["weight_*"]))
    torch.testing.assert_close(shared(x)[0], expected)
    shared(x)[0].sum().backward()
    assert shared.psi_0.grad.abs().sum() > 0
    for other in (copy.deepcopy(shared), pickle.loads(pickle.dumps(shared)), to_dense(shared)):
        torch.testing.assert_close(other(x)[0], expected)


def test_recurrent_layers_do_not_keep_what_they_shared():
    model = compress_(nn.LSTM(32, 64, 2), RPSConfig(ratio=50, include=["*"]))
    assert len(pickle.dumps(model)) < 4 * 5000  # of 57,000 weights
    dense = to_dense(model)
    inputs = torch.randn(2, 3, 32)
    assert torch.equal(dense(inputs)[0], model(inputs)[0])
    assert [id(weight) for weight in dense._flat_weights] == [id(weight) for weight in dense.parameters()]


def test_tables_that_shorten_their_rows_are_refused():
    model = nn.Sequential(nn.Embedding(50, 8, max_norm=1.0), nn.Linear(8, 2))
    with pytest.raises(ValueError, match=r"max_norm is set \(layer '0'\): exclude it"):
        compress_(model, RPSConfig(ratio=4))


def test_biases_and_norms_never_share_by_default(resnet):
    assert names(resnet) == ["conv1", "conv2", "fc"]


def test_exclude_and_include_name_the_nearest_layer(resnet):
    assert names(resnet, exclude=["fc"]) == ["conv1", "conv2"]
    with pytest.raises(ValueError, match=r"include: pattern 'conv3' matches no layer; the nearest is 'conv"):
        names(resnet, include=["conv3"])
    with pytest.raises(ValueError, match=r"exclude: pattern 'f' matches no layer; the nearest is 'fc'"):
        names(resnet, exclude=["f"])
    with pytest.raises(ValueError, match="must have a weight to share"):
        names(resnet, exclude=["conv*", "fc"])
    with pytest.raises(ValueError, match="must have a weight to share"):
        names(nn.Sequential(nn.BatchNorm1d(3)))


def test_candidates_list_all_owners(transformer):
    embed = next(c for c in find_candidates(transformer) if c.name == "embed")
    assert embed.owners == [("embed", "weight"), ("head", "weight")]
    assert embed.table
    assert embed.padding == 0


def test_shared_modules_keep_their_class_and_refuse_new_weights(resnet):
    compress_(resnet, RPSConfig(ratio=4))
    assert isinstance(resnet.conv1, nn.Conv2d)
    assert type(resnet.conv1).__name__ == "SharedConv2d"
    with pytest.raises((KeyError, AttributeError)):
        resnet.conv1.weight = nn.Parameter(torch.zeros(8, 3, 3, 3))
