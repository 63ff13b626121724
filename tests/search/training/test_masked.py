import torch
from hypothesis import given
from hypothesis import strategies as st

from search.training.masked import masks_in, pack, unpack


@given(st.integers(1, 5), st.integers(1, 9), st.integers(0, 2**16))
def test_packing_loses_nothing(rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.rand(rows, columns, generator=generator) < 0.4).float()
    state = {
        "a.weight": torch.randn(rows, columns, generator=generator) * mask,
        "a.weight_mask": mask,
        "a.bias": torch.randn(rows, generator=generator),
        "steps": torch.tensor(7),
    }
    masks = masks_in(state)
    assert masks.keys() == {"a.weight"}
    packed = pack(state, masks)
    assert packed["kept.a.weight"].numel() == int(mask.sum())
    assert packed["bits.a.weight_mask"].numel() == -(-rows * columns // 8)
    found = unpack(packed, state)
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(found[name], tensor)
        assert found[name].dtype == tensor.dtype


def test_a_buffer_that_only_looks_like_a_mask_is_left_alone():
    state = {"w": torch.ones(3), "w_mask": torch.tensor([1.0, 0.0, 1.0]), "v": torch.ones(2), "v_mask": torch.ones(3)}
    assert masks_in(state) == {}
    assert masks_in({"w": torch.zeros(2), "w_mask": torch.tensor([0.5, 1.0])}) == {}
    assert pack(state, masks_in(state)) == state


def test_modules_of_any_name_are_packed():
    names = ("bits.weight", "kept.weight", "kept.bits.weight")
    state = {name: torch.tensor([[1.0, 0.0], [0.0, 2.0]]) for name in names}
    state |= {f"{name}_mask": (state[name] != 0).float() for name in names[1:]}
    packed = pack(state, masks_in(state))
    assert packed["kept.kept.weight"].numel() == 2
    found = unpack(packed, state)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


def test_kept_values_keep_their_digits():
    weight = torch.tensor([1 / 3, 0.0], dtype=torch.float64)
    state = {"w": weight, "w_mask": torch.tensor([1.0, 0.0], dtype=torch.float64)}
    assert torch.equal(unpack(pack(state, masks_in(state)), state)["w"], weight)
