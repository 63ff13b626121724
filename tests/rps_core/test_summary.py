import copy

import pytest
import torch
from torch import nn

from rps_core import CompressionSummary, GroupSummary, RPSConfig, compress_, compression_summary, project_


def test_by_hand():
    model = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 5))
    compress_(model, RPSConfig(ratio=8))
    slots = round((72 + 80) / 8)
    plain, buffers = 4 + 4 + 5, 4 + 4
    assert compression_summary(model) == CompressionSummary(
        virtual_size=152,
        slots=slots,
        ratio=8.0,
        stored_parameters=slots + plain,
        stored_bytes=4 * slots + 4 * 2 + 8 + 4 * (plain + buffers) + 8,
        groups=(GroupSummary("*", ("0", "3"), 152, slots),),
        relative_error=None,
    )


@pytest.mark.parametrize(("psi_dtype", "bytes_"), [("float32", 400), ("bfloat16", 200), ("int8", 104)])
def test_psi_counts_as_it_is_stored(psi_dtype, bytes_):
    model = compress_(nn.Linear(20, 10, bias=False), RPSConfig(ratio=2, psi_dtype=psi_dtype))
    assert compression_summary(model).stored_bytes == bytes_ + 4 + 8


def test_half_precision_models_count_as_float32():
    model = compress_(nn.Linear(20, 10), RPSConfig(ratio=2))
    expected = compression_summary(model)
    assert compression_summary(copy.deepcopy(model).half()) == expected


def test_only_projected_models_have_errors(mlp):
    errors = compression_summary(project_(copy.deepcopy(mlp), RPSConfig(ratio=4))).relative_error
    assert set(errors) == {"0", "2"}
    assert compression_summary(compress_(mlp, RPSConfig(ratio=4))).relative_error is None


def test_buffers_that_are_not_saved_do_not_count(mlp):
    before = compression_summary(compress_(copy.deepcopy(mlp), RPSConfig()))
    mlp.register_buffer("scratch", torch.zeros(100), persistent=False)
    assert compression_summary(compress_(mlp, RPSConfig())).stored_bytes == before.stored_bytes
