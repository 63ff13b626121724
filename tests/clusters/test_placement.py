import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusters.placement import Shape, capacity, fits, limit_gpu_memory, missing

BIG = Shape({"CPU": 8, "GPU": 2}, 3)
WIDE = Shape({"CPU": 64}, 1)


@pytest.mark.parametrize(
    ("cpus", "gpus", "custom", "expected"),
    [
        (1, 0, {}, 8),
        (3, 0, {}, 2),
        (1, 1, {}, 2),
        (1, 0.5, {}, 4),
        (1, 0.4, {}, 4),  # 0.4 fits twice on each GPU; 2 / 0.4 = 5 would put one trial on two GPUs
        (1, 1 / 3, {}, 6),
        (0.1, 0, {}, 80),
        (1, 2, {}, 1),
        (1, 3, {}, 0),
        (1, 0, {"tpu": 1}, 0),
    ],
)
def test_fits(cpus, gpus, custom, expected):
    assert fits(BIG.resources, cpus, gpus, custom) == expected


def test_capacity_adds_up_over_unlike_machines():
    assert capacity([BIG, WIDE], 4, 0, {}) == 3 * 2 + 16
    assert capacity([BIG, WIDE], 4, 1, {}) == 3 * 2


def test_missing_names_what_no_machine_has():
    assert missing([BIG, WIDE], 64, 0, {}) is None
    text = missing([BIG], 16, 4, {"tpu": 1})
    assert text is not None
    assert "16 CPU (the best machine has 8) and 4 GPU (the best machine has 2) and 1 tpu" in text
    assert text.endswith("lower resources.cpus or resources.gpus or resources.custom.tpu")


def test_missing_together_is_not_missing_each():
    text = missing([BIG, WIDE], 32, 1, {})
    assert text is not None
    assert "none has 32 CPU and 1 GPU together" in text


def test_no_machine_at_all():
    assert "the best machine has 0" in (missing([], 1, 0, {}) or "")


@given(cpus=st.integers(1, 16), share=st.integers(1, 8), node_cpus=st.integers(0, 64), node_gpus=st.integers(0, 8))
def test_what_fits_never_asks_for_more_than_there_is(cpus, share, node_cpus, node_gpus):
    count = fits({"CPU": node_cpus, "GPU": node_gpus}, cpus, 1 / share, {})
    assert count * cpus <= node_cpus
    assert count <= node_gpus * share
    assert (count + 1) * cpus > node_cpus or count + 1 > node_gpus * share, "one more would have fitted"


@pytest.mark.parametrize("gpus", [0, 1, 2, 0.5])
def test_memory_is_limited_for_fractions_only(monkeypatch, gpus):
    torch = pytest.importorskip("torch")
    calls = []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", calls.append)
    limit_gpu_memory(gpus)
    assert calls == ([0.5] if gpus == 0.5 else [])


@pytest.mark.gpu
def test_a_share_of_the_gpus_memory_cannot_be_exceeded(monkeypatch):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    total = torch.cuda.get_device_properties(0).total_memory
    limit_gpu_memory(0.25)
    try:
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(int(0.3 * total), dtype=torch.uint8, device="cuda")
        assert torch.empty(int(0.1 * total), dtype=torch.uint8, device="cuda").is_cuda
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
