import pytest
import torch
from torch import nn

from rps_core import RPSConfig, compress_, round_psi_
from rps_core.quantize import INT8_BLOCK, pack, psi_bytes, relative_error, unpack


@pytest.mark.parametrize("slots", [1, 255, 256, 257, 1000])
@pytest.mark.parametrize(("dtype", "bound"), [("float32", 0), ("bfloat16", 2**-7), ("int8", 1 / 127)])
def test_round_trip_within_the_bound_and_the_size(slots, dtype, bound):
    psi = torch.randn(slots)
    stored = pack(psi, dtype)
    assert sum(part.numel() * part.element_size() for part in stored) == psi_bytes(slots, dtype)
    assert unpack(stored).shape == (slots,)
    largest = psi.abs() if dtype == "bfloat16" else psi.abs().max()
    assert ((unpack(stored) - psi).abs() <= largest * bound / 2 + 1e-7).all()
    assert relative_error(psi, unpack(stored)) <= bound * 2


def test_int8_by_hand():
    psi = torch.zeros(INT8_BLOCK + 1)
    psi[0], psi[1], psi[-1] = 127.0, -63.4, 0.0
    values, scales = pack(psi, "int8")
    assert scales.tolist() == [1.0, 0.0]
    assert values[:2].tolist() == [127, -63]
    assert unpack((values, scales))[-1] == 0


def test_relative_error_of_nothing_is_nothing():
    assert relative_error(torch.zeros(3), torch.zeros(3)) == 0
    assert relative_error(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 3.0])) == pytest.approx(0.2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_a_model_is_rounded_to_what_its_file_keeps(dtype):
    model = compress_(nn.Linear(30, 20), RPSConfig(ratio=2, psi_dtype=dtype))
    before = model.psi_0.detach().clone()
    assert round_psi_(model) == (dtype != "float32")
    assert torch.equal(model.psi_0, unpack(pack(before, dtype)))
    assert torch.equal(model.psi_0, before) == (dtype == "float32")
