import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from search.config import describe_config
from search.exporting.card import model_card
from search.methods import compress, load_trained
from search.results import Folder, ResultStore
from search.trial import build, workbench
from tests.search.exporting.conftest import METHODS, config_of


def exported(call, runs, out, method, *options):
    code, _, err = call("export", runs, "--trial", config_of(method).trial_id, "--out", out, *options)
    assert (code, err) == (0, "")
    return out


@pytest.mark.parametrize("method", METHODS)
def test_an_exported_model_is_as_good_as_the_table_says_to_the_last_image(method, call, runs, tmp_path):
    out = exported(call, runs, tmp_path / "out", method)
    assert {path.name for path in out.iterdir()} == {"model.safetensors", "model.json", "README.md"}
    # The folder stands on its own: the experiment may be gone.
    (runs / "spec.yaml").unlink()
    code, said, _ = call("evaluate", out)
    assert code == 0
    assert said.endswith("equal to the results table, to the last image\n")


def test_a_model_that_is_not_as_good_as_the_table_says_is_told(call, runs, tmp_path):
    out = exported(call, runs, tmp_path / "out", "rand")
    facts = json.loads((out / "model.json").read_text())
    facts["accuracy"] -= 1 / 359
    (out / "model.json").write_text(json.dumps(facts))
    code, _, err = call("evaluate", out / "model.safetensors")
    assert code == 3
    assert "the results table says" in err


@pytest.mark.parametrize("method", METHODS)
def test_plain_weights_give_equal_outputs(method, call, runs, tmp_path, digits):
    out = exported(call, runs, tmp_path / "out", method, "--dense")
    config = config_of(method)
    bench = workbench(config, digits, torch.device("cpu"))
    plain = compress(bench).model if method in ("small", "channels") else build(config, digits)
    plain.load_state_dict(load_file(out / "dense.safetensors"))
    images = torch.randn(7, *digits.shape)
    with torch.no_grad():
        outputs = load_trained(bench, out / "model.safetensors")(images)
        assert torch.equal(plain.eval()(images), outputs)
    assert outputs.std() > 0


@pytest.mark.parametrize("method", ["rps", "rand"])
def test_onnx_gives_equal_outputs(method, call, runs, tmp_path, digits):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    out = tmp_path / "out"
    code, _, _ = call("export", runs, "--trial", config_of(method).trial_id, "--out", out, "--onnx")
    assert code == 0
    session = runtime.InferenceSession(out / "model.onnx", providers=["CPUExecutionProvider"])
    model = load_trained(workbench(config_of(method), digits, torch.device("cpu")), out / "model.safetensors")
    images = torch.randn(5, *digits.shape)
    (logits,) = session.run(["logits"], {"images": images.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(logits, model(images).numpy(), rtol=1e-5, atol=1e-5)


def test_a_trial_trained_again_is_the_same_and_can_then_be_exported(call, runs, tmp_path):
    trial = config_of("rps").trial_id
    model = runs / "checkpoints" / "models" / f"{trial}.safetensors"
    before = load_file(model)
    model.unlink()
    code, out, _ = call("replay", runs, "--trial", trial, "--keep")
    assert code == 0
    assert len(out.splitlines()) == 5
    assert "differs" not in out
    again = load_file(model)
    assert again.keys() == before.keys()
    assert all(torch.equal(again[name], before[name]) for name in before)
    exported(call, runs, tmp_path / "out", "rps")


def test_a_trial_that_is_not_reproduced_is_told(call, runs):
    code, out, err = call("replay", runs, "--trial", config_of("dense", seed=4).trial_id)
    assert code == 3
    assert "<- differs" in out
    assert "the trial was not reproduced" in err


def test_a_model_that_differs_from_the_table_does_not_take_the_place_of_the_one_that_was_kept(call, runs):
    trial = config_of("dense", seed=4).trial_id
    model = runs / "checkpoints" / "models" / f"{trial}.safetensors"
    model.write_bytes(b"precious")
    code, _, err = call("replay", runs, "--trial", trial, "--keep")
    assert code == 3
    assert err.splitlines()[-1].endswith("; its model is not kept")
    assert model.read_bytes() == b"precious"


def test_a_trial_that_diverges_now_is_not_reproduced(call, runs):
    row = next(row for row in ResultStore(Folder(runs)).read("trials").to_pylist() if row["status"] == "finished")
    config = config_of("dense").model_copy(update={"lr": 1e30})
    ResultStore(Folder(runs)).append("trials", [row | describe_config(config)])
    code, _, err = call("replay", runs, "--trial", config.trial_id)
    assert code == 3
    assert "the trial was not reproduced (the loss became" in err.splitlines()[-1]


def test_names_do_not_steer_the_terminal(call, runs, refused, tmp_path):
    evil = runs.rename(tmp_path / "\x1b[31mred")
    code, out, _ = call("export", evil, "--trial", config_of("rps").trial_id, "--out", tmp_path / "\x1b[2J")
    assert code == 0
    assert "\x1b" not in out
    assert "\\x1b[2J/model.json" in out
    for command in (["report", evil], ["convert", evil, "--to", "optuna"]):
        code, out, _ = call(*command)
        assert code == 0
        assert "\x1b" not in out
    ResultStore(Folder(evil)).append("trials", [{"trial_id": "\x1b[8m", "experiment": "e", "status": "\x1b[8m"}])
    assert "\x1b" not in refused("export", evil, "--trial", "zz")
    assert "\x1b" not in refused("export", evil, "--trial", "\x1b")


def test_the_most_accurate_trial_that_fits_is_exported(call, runs, tmp_path):
    rows = [row for row in ResultStore(Folder(runs)).read("trials").to_pylist() if row["status"] == "finished"]
    limit = sorted(row["stored_bytes"] for row in rows)[-3]
    best = max((row for row in rows if row["stored_bytes"] <= limit), key=lambda row: row["accuracy_val"])
    assert call("export", runs, "--max-bytes", limit, "--out", tmp_path / "out")[0] == 0
    assert json.loads((tmp_path / "out" / "model.json").read_text())["accuracy_val"] == best["accuracy_val"]


def test_the_card_tells_what_the_file_is(call, runs, tmp_path):
    card = (exported(call, runs, tmp_path / "out", "rand") / "README.md").read_text()
    assert "# mlp, compressed by rand" in card
    assert "10 classes, 1x8x8 images" in card
    assert config_of("rand").trial_id in card
    operations = "| operations for one image |"
    assert f"{operations} 0 |" not in card
    facts = json.loads((tmp_path / "out" / "model.json").read_text())
    assert f"{operations} 0 |" in model_card({**facts, "flops": None}, {"budgets": None}), "rows of early versions"
    row = {"budgets": {"fc|`1": 12}}
    assert "| `fc??1` | 12 |" in model_card(facts, row), "no name ends a cell"


def test_a_trial_that_cannot_be_exported_is_refused(runs, refused, tmp_path):
    failed = [row["trial_id"] for row in ResultStore(Folder(runs)).read("trials").to_pylist() if row["error"]]
    shared = next(d for d in "0123456789abcdef" if sum(trial.startswith(d) for trial in failed) > 1)
    out = ("--out", tmp_path / "out")
    assert "unknown trial 'zz'" in refused("export", runs, "--trial", "zz", *out)
    assert "unknown trial ''" in refused("export", runs, "--trial", "", *out)
    assert "write more of the id" in refused("export", runs, "--trial", shared, *out)
    assert "it is failed, and has no model" in refused("export", runs, "--trial", failed[0], *out)
    not_kept = config_of("dense", seed=4).trial_id
    assert refused("export", runs, "--trial", not_kept, *out).endswith(f"--trial {not_kept} --keep\n")
    more = ("--data", "a b", "--allow-code")  # what this command needed the other needs as well
    assert "--keep --data 'a b' --allow-code" in refused("export", runs, "--trial", not_kept, *more, *out)
    assert "no finished trial is that small" in refused("export", runs, "--max-bytes", "1", *out)
    assert "either --trial ID or --max-bytes SIZE" in refused("export", runs, *out)
    assert not (tmp_path / "out").exists()


def test_the_export_of_another_trial_is_not_written_over(call, runs, refused, tmp_path):
    out = exported(call, runs, tmp_path / "out", "rps")
    before = (out / "model.safetensors").read_bytes()
    assert "holds the export of another trial" in refused(
        "export", runs, "--trial", config_of("rand").trial_id, "--out", out
    )
    assert (out / "model.safetensors").read_bytes() == before
    exported(call, runs, out, "rps", "--dense")
    assert (out / "dense.safetensors").exists()


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"config": 3}', '{"config": {"method": "rps"}}', "\udcff", 100_000 * "["]
)
def test_a_damaged_description_is_named(content, call, runs, refused, tmp_path):
    out = exported(call, runs, tmp_path / "out", "rps")
    (out / "model.json").write_text(content, errors="surrogateescape")
    assert "model.json: damaged" in refused("evaluate", out)


@pytest.mark.parametrize("method", METHODS)
def test_a_flipped_bit_in_the_model_is_noticed(method, call, runs, refused, tmp_path):
    out = exported(call, runs, tmp_path / "out", method)
    content = bytearray((out / "model.safetensors").read_bytes())
    content[-3] ^= 1
    (out / "model.safetensors").write_bytes(content)
    assert "not the file that was exported, its checksum differs" in refused("evaluate", out)
    (out / "model.safetensors").unlink()
    assert "model.safetensors: cannot be read (No such file or directory)" in refused("evaluate", out)


@pytest.mark.parametrize("missing", ["accuracy", "model_sha256", "config"])
def test_a_description_without_what_an_evaluation_needs_is_named(missing, call, runs, refused, tmp_path):
    out = exported(call, runs, tmp_path / "out", "rps")
    facts = json.loads((out / "model.json").read_text())
    del facts[missing]
    (out / "model.json").write_text(json.dumps(facts))
    assert "model.json: damaged (KeyError)" in refused("evaluate", out)


@pytest.mark.parametrize("accuracy", ["NaN", "1e999", "-0.1", "1.5", "1" + 400 * "0", "null", '"x"'])
def test_an_accuracy_that_is_none_is_named_before_anything_is_computed(accuracy, call, runs, refused, tmp_path):
    out = exported(call, runs, tmp_path / "out", "rps")
    facts = json.loads((out / "model.json").read_text())
    facts["accuracy"] = "HERE"
    (out / "model.json").write_text(json.dumps(facts).replace('"HERE"', accuracy))
    assert "model.json: damaged" in refused("evaluate", out)


def test_the_data_is_looked_for_where_it_is_said_to_lie_now(call, runs, refused, tmp_path):
    out = exported(call, runs, tmp_path / "out", "rps")
    assert "data.path: leave it out, digits are embedded" in refused("evaluate", out, "--data", tmp_path)


def test_a_folder_that_holds_no_export_is_named(refused, tmp_path):
    assert "no exported model" in refused("evaluate", tmp_path)
    assert "no exported model" in refused("evaluate", tmp_path / "nothing" / "model.safetensors")


def test_a_place_that_cannot_be_written_is_named_and_nothing_is_left(runs, refused, tmp_path):
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        assert "cannot be written" in refused("export", runs, "--trial", config_of("rps").trial_id, "--out", place)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_readme_that_is_of_no_export_is_not_written_over(runs, refused, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    said = refused("export", runs, "--trial", config_of("rps").trial_id, "--out", tmp_path)
    assert "holds a file README.md" in said
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "runs"}


@pytest.mark.parametrize("options", [[], ["--dense", "--onnx"]])
def test_a_model_that_does_not_fit_its_trial_leaves_no_folder(options, runs, refused, tmp_path):
    trial = config_of("rps").trial_id
    models = runs / "checkpoints" / "models"
    (models / f"{trial}.safetensors").write_bytes((models / f"{config_of('small').trial_id}.safetensors").read_bytes())
    refused("export", runs, "--trial", trial, "--out", tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()
