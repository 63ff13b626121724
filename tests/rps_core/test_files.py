import json
import os
import struct

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from rps_core import RPSConfig, compress_, compression_summary, load_compressed, project_, save_compressed
from rps_core.files import FORMAT_VERSION, checksum
from rps_core.sharing import sharing_of


def small():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(6 * 4, 5))


IMAGES = torch.linspace(-1, 1, 3 * 2 * 16).view(3, 2, 4, 4)


@pytest.fixture
def saved(tmp_path):
    model = compress_(small(), RPSConfig(ratio=3, seed=5))
    model(IMAGES)
    save_compressed(model, tmp_path / "model.safetensors")
    return model.eval(), tmp_path / "model.safetensors"


def untouched(model):
    return all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), small().state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("mapping", ["random_fold", "roast"])
def test_round_trip(build, batch, tmp_path, mapping):
    if hasattr(build(), "conv2"):
        config = RPSConfig(ratio=5, mapping=mapping, gradient_scaling="load_power(0.5)", exclude=["conv2"])
    else:
        config = RPSConfig(ratio=5, mapping=mapping, budgets={"encoder.*": 0.25}, exclude=["*.linear2"])
    model = compress_(build(), config)
    model(batch)
    report = save_compressed(model, tmp_path / "m")
    torch.manual_seed(77)
    fresh = type(build())()
    assert load_compressed(tmp_path / "m", fresh) is fresh
    assert torch.equal(fresh.eval()(batch), model.eval()(batch))
    assert fresh._rps_sharing.config == config
    assert compression_summary(fresh) == compression_summary(model)
    assert report.size_bytes == os.path.getsize(tmp_path / "m")
    assert set(report.psi_error.values()) == {0.0}
    for either in (fresh, model):
        either.train()(batch).float().square().mean().backward()
    assert torch.equal(fresh.psi_0.grad, model.psi_0.grad)


def test_size_at_ratio_100(tmp_path):
    model = nn.Sequential(*(nn.Conv2d(256, 256, 3, bias=False) for _ in range(6)), nn.BatchNorm2d(256))
    compress_(model, RPSConfig(ratio=100))
    size = save_compressed(model, tmp_path / "m").size_bytes
    must = compression_summary(model).stored_bytes
    assert must <= size <= 1.02 * must


@pytest.mark.parametrize(("psi_dtype", "low", "high"), [("bfloat16", 1e-4, 4e-3), ("int8", 1e-3, 2e-2)])
def test_small_psi_comes_with_its_error(tmp_path, psi_dtype, low, high):
    model = compress_(small(), RPSConfig(ratio=2, psi_dtype=psi_dtype)).eval()
    report = save_compressed(model, tmp_path / "m")
    fresh = load_compressed(tmp_path / "m", small()).eval()
    moved = float((fresh.psi_0 - model.psi_0).norm() / model.psi_0.norm())
    assert low < report.psi_error["*"] < high
    assert moved == pytest.approx(report.psi_error["*"], rel=1e-3)
    plain = save_compressed(compress_(small(), RPSConfig(ratio=2)), tmp_path / "plain").size_bytes
    assert report.size_bytes < plain


def test_wrapped_tied_and_projected_models(transformer, tmp_path):
    project_(transformer, RPSConfig(ratio=4))
    save_compressed(nn.Sequential(transformer), tmp_path / "m")
    fresh = load_compressed(tmp_path / "m", type(transformer)())
    tokens = torch.randint(0, 40, (2, 5))
    assert torch.equal(fresh(tokens), transformer(tokens))


def test_files_from_when_every_row_of_padding_was_zero_are_loaded(transformer, tmp_path, monkeypatch):
    with monkeypatch.context() as before:
        before.setattr("rps_core.layers.Candidate.keeps_zero", True)
        save_compressed(compress_(transformer, RPSConfig(ratio=4)), tmp_path / "m")
    fresh = load_compressed(tmp_path / "m", type(transformer)())
    tokens = torch.arange(10)[None]
    assert torch.equal(fresh(tokens), transformer(tokens))
    assert not fresh.embed.weight[0].any()


def test_an_excluded_tied_weight_is_stored_once(transformer, tmp_path):
    compress_(transformer, RPSConfig(ratio=4, exclude=["embed"]))
    save_compressed(transformer, tmp_path / "m")
    fresh = load_compressed(tmp_path / "m", type(transformer)())
    assert fresh.head.weight is fresh.embed.weight
    assert torch.equal(fresh.embed.weight, transformer.embed.weight)
    held = load_file(tmp_path / "m")["plain"].numel()
    assert held == 4 * sum(p.numel() for name, p in transformer.named_parameters() if not name.startswith("psi"))


def test_a_module_registered_under_several_names_is_loaded(tmp_path):
    def thrice():
        block = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))
        return nn.Sequential(block, block, nn.Sequential(block), nn.Linear(8, 3))

    model, x = compress_(thrice(), RPSConfig(ratio=4)), torch.randn(2, 8)
    save_compressed(model, tmp_path / "m")
    assert torch.equal(load_compressed(tmp_path / "m", thrice())(x), model(x))


def test_a_model_with_nothing_but_shared_weights(tmp_path):
    model = compress_(nn.Linear(20, 10, bias=False), RPSConfig(ratio=4))
    save_compressed(model, tmp_path / "m")
    assert torch.equal(load_compressed(tmp_path / "m", nn.Linear(20, 10, bias=False)).weight, model.weight)


def test_double_precision_models_keep_their_plain_tensors_exactly(tmp_path):
    model = compress_(small().double(), RPSConfig(ratio=2))
    with torch.no_grad():
        model[3].bias.fill_(1 / 3)
    report = save_compressed(model, tmp_path / "m")
    fresh = load_compressed(tmp_path / "m", small().double())
    assert torch.equal(fresh[3].bias, model[3].bias)
    assert report.psi_error["*"] < 1e-7


def test_a_file_appears_whole_or_not_at_all(saved, tmp_path, monkeypatch):
    model, path = saved
    before = path.read_bytes()

    def fail(tensors, name, metadata):
        name.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("rps_core.files.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save_compressed(model, path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    with pytest.raises(OSError, match="disk full"):
        save_compressed(model, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_compressed(tmp_path / "none", small())
    with pytest.raises(OSError, match="none"):
        save_compressed(compress_(small(), RPSConfig()), tmp_path / "none" / "m")


@pytest.mark.parametrize("where", [0, 1, 7, 8, 100, 0.5, 0.9, -1])
def test_cut_short(saved, where):
    _, path = saved
    whole = path.read_bytes()
    path.write_bytes(whole[: int(where * len(whole)) if isinstance(where, float) else where])
    model = small()
    with pytest.raises(ValueError, match=r"must be a whole safetensors file"):
        load_compressed(path, model)
    assert untouched(model)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_altered_byte_is_refused(saved, data):
    _, path = saved
    whole = path.read_bytes()
    place, flip = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(1, 255))
    model = small()
    altered = path.with_name("altered")
    changed = whole[place] ^ flip
    assume(not (whole[place : place + 1] == b" " and changed in b"\t\n\r"))  # blank padding of a header
    altered.write_bytes(whole[:place] + bytes([changed]) + whole[place + 1 :])
    with pytest.raises(ValueError, match=str(altered)):
        load_compressed(altered, model)
    assert untouched(model)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.binary(max_size=300))
def test_noise_is_refused(tmp_path, noise):
    (tmp_path / "noise").write_bytes(noise)
    with pytest.raises(ValueError, match="noise must be"):
        load_compressed(tmp_path / "noise", small())


def refused_or_equal(path, expected):
    """A damaged file is refused in a sentence that names it and leaves the model alone, or it loads what was saved."""
    fresh = small()
    try:
        load_compressed(path, fresh)
    except ValueError as error:
        assert str(path) in str(error)  # noqa: PT017 - which of the two happens is what varies
        assert untouched(fresh)
    else:
        assert torch.equal(fresh.eval()(IMAGES), expected)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_of_any_kind_is_refused_or_harmless(saved, data):
    """Cut at any length, several bits flipped, a stretch taken out, doubled or zeroed."""
    model, path = saved
    whole = bytearray(path.read_bytes())
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(whole))] * 2), label="stretch"))
    kind = data.draw(st.sampled_from(["cut", "flip", "remove", "double", "zero"]))
    if kind == "cut":
        whole = whole[:start]
    elif kind == "flip":
        for place in data.draw(st.lists(st.integers(0, 8 * len(whole) - 1), min_size=1, max_size=5)):
            whole[place // 8] ^= 1 << place % 8
    else:
        part = whole[start:stop]
        whole[start:stop] = {"remove": b"", "double": part + part, "zero": bytes(len(part))}[kind]
    damaged = path.with_name("damaged")
    damaged.write_bytes(whole)
    refused_or_equal(damaged, model(IMAGES))


TEXTS = [
    "F32",
    "F64",
    "F16",
    "BF16",
    "F8_E4M3",
    "F8_E8M0",
    "F4",
    "I8",
    "U8",
    "I64",
    "BOOL",
    "C64",
    "",
    "sha256",
    "psi_0",
]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_edits_of_the_header_are_refused_or_harmless(saved, data):
    """Any entry of the safetensors header changed for something else, with the lengths made to fit."""
    model, path = saved
    whole = path.read_bytes()
    length = struct.unpack("<Q", whole[:8])[0]
    header = json.loads(whole[8 : 8 + length])
    name = data.draw(st.sampled_from(sorted(header)))
    odd = st.sampled_from([*TEXTS, None, -1, 2**63, 1.5, [], {}, [0], [0, 2**62], True])
    if data.draw(st.booleans()):
        header[name][data.draw(st.sampled_from(sorted(header[name])))] = data.draw(odd)
    elif data.draw(st.booleans()):
        header[data.draw(st.sampled_from(TEXTS))] = header.pop(name)
    else:
        header[name] = data.draw(odd)
    text = json.dumps(header).encode()
    edited = path.with_name("edited")
    edited.write_bytes(struct.pack("<Q", len(text)) + text + whole[8 + length :])
    refused_or_equal(edited, model(IMAGES))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_forged_configurations_are_refused_or_harmless(saved, data):
    """Any field of the configuration, with a checksum that fits: nonsense is refused, or says the same."""
    model, path = saved
    forged = path.with_name("forged")
    forged.write_bytes(path.read_bytes())
    odd = st.sampled_from([None, -1, 2**70, 1e308, float("nan"), "", "*", [], [[]], {}, {"*": 1e400}, {"": []}, True])
    field = data.draw(st.sampled_from([*RPSConfig.__dataclass_fields__, "unknown"]))
    forge(forged, lambda header, tensors: header["config"].update({field: data.draw(odd)}))
    fresh = small()
    try:
        load_compressed(forged, fresh)
    except ValueError as error:
        assert str(forged) in str(error)  # noqa: PT017 - as above
        assert untouched(fresh)
    else:
        assert torch.equal(fresh.psi_0, model.psi_0)


def forge(path, change):
    """Write a file again with its header or tensors changed, and a checksum that fits."""
    whole = path.read_bytes()
    length = struct.unpack("<Q", whole[:8])[0]
    header = json.loads(json.loads(whole[8 : 8 + length])["__metadata__"]["rps_core"])
    tensors = load_file(path)
    header = change(header, tensors) or header
    text = json.dumps(header)
    save_file(tensors, path, metadata={"rps_core": text, "sha256": checksum(text, tensors)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, t: h.update(version=FORMAT_VERSION + 1), r"has format 3, but this rps_core reads up to 2: update"),
        (lambda h, t: h.update(version="1"), "altered"),
        (lambda h, t: h.pop("config") is None, "metadata are not"),
        (lambda h, t: h.update(config=[]), "altered"),
        (lambda h, t: ["version"], "metadata are not"),
        (lambda h, t: h["config"].update(ratio=0.5), "valid configuration, but: ratio >= 1"),
        (lambda h, t: h["config"].update(colour="red"), "valid configuration"),
        (lambda h, t: h["config"].update(seed="0"), "valid configuration, but: seed must be an integer"),
        (lambda h, t: h["config"].update(exclude=["nowhere"]), "architecture of fresh_model"),
        (lambda h, t: h["config"].update(ratio=2), r"must hold 'psi_0' with"),
        (lambda h, t: t.pop("scales") is None, "must hold 'scales'"),
        (lambda h, t: t.update(extra=torch.zeros(2)), r"must hold nothing else, but has \['extra'\]"),
        (lambda h, t: t.update(psi_0=t["psi_0"].double()), "must hold 'psi_0'"),
    ],
)
def test_forged_files_are_refused_with_a_sentence(saved, change, message):
    _, path = saved
    forge(path, change)
    model = small()
    with pytest.raises(ValueError, match=message):
        load_compressed(path, model)
    assert untouched(model)


def test_files_of_version_1_were_written_when_the_default_scaling_was_the_papers(saved):
    _, path = saved
    forge(path, lambda h, t: h.update(version=1))
    assert sharing_of(load_compressed(path, small()))[1].config.gradient_scaling == "effective_update"


def test_other_architectures_and_other_files_are_refused(saved, tmp_path):
    _, path = saved
    wider = nn.Sequential(nn.Conv2d(2, 7, 3), nn.BatchNorm2d(7), nn.Flatten(), nn.Linear(7 * 4, 5))
    with pytest.raises(ValueError, match="names, shapes or dtypes of its tensors differ"):
        load_compressed(path, wider)
    with pytest.raises(ValueError, match="names, shapes or dtypes of its tensors differ"):
        load_compressed(path, small().double())
    with pytest.raises(ValueError, match="compressed once"):
        load_compressed(path, compress_(small(), RPSConfig()))
    save_file({"a": torch.zeros(3)}, tmp_path / "other")
    with pytest.raises(ValueError, match="must be a file of save_compressed"):
        load_compressed(tmp_path / "other", small())
    torch.save(small(), tmp_path / "pickle")
    with pytest.raises(ValueError, match="must be a whole safetensors file"):
        load_compressed(tmp_path / "pickle", small())


def test_state_that_is_no_tensor_is_refused(tmp_path):
    class Noted(nn.Linear):
        def get_extra_state(self):
            return {"note": 1}

        def set_extra_state(self, state):
            pass

    with pytest.raises(ValueError, match=r"must hold tensors, but '_extra_state' is a dict"):
        save_compressed(compress_(Noted(4, 4), RPSConfig()), tmp_path / "m")
