"""What wrong input gets: one line on stderr, exit code 2, and nothing that was there is lost."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from PIL import Image

from search.cli.app import main
from search.driver.experiment import create_or_open
from search.results.folder import Folder
from search.spec import load_spec, parse_spec

SPEC = """
name: small
trials: 4
data: {name: parquet, path: PATH}
model: {args: {hidden: [8]}}
train: {epochs: 1, batch_size: 8}
space: {methods: [rps, rand], ratio: {low: 2, high: 20}}
"""


def jpegs(count):
    def encode(number):
        out = io.BytesIO()
        Image.fromarray(np.full((8, 8), 20 * number % 255, dtype=np.uint8)).save(out, "JPEG")
        return out.getvalue()

    return [encode(number) for number in range(count)]


@pytest.fixture(scope="module", autouse=True)
def ray_that_runs():
    """Start Ray once: a search finds mistakes in data and model in a process of Ray's, which then serves them all."""
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture
def call(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["rps-search", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, capsys.readouterr().err

    return run


@pytest.fixture
def world(tmp_path):
    """A spec, a small Parquet file for it, and the folder the search would go to."""
    images = jpegs(90)
    pq.write_table(pa.table({"image": images, "label": [n % 3 for n in range(90)]}), tmp_path / "train.parquet")
    (tmp_path / "spec.yaml").write_text(SPEC.replace("PATH", str(tmp_path / "train.parquet")))
    return tmp_path


def write(path, **columns):
    pq.write_table(pa.table(columns), path)


CASES = {
    "typo": (["--set=train.epoch=3"], r"train.epoch: unknown field; did you mean 'epochs'?"),
    "ratio below 1": (["--set=space.ratio=0.5"], "ratio >= 1 must hold"),
    "unknown method": (["--set=space.methods=[rps, snipp]"], "did you mean 'snip'"),
    "unknown argument": (["--set=space.methods.rps.args={maping: roast}"], "did you mean 'mapping'"),
    "unknown model": (["--set=model.name=no.such:net"], "cannot import no.such"),
    "unknown model argument": (["--set=model.args={hiden: [8]}"], "hidden"),
    "batch too large": (["--set=train.batch_size=1000"], "train.batch_size=1000 is more than the"),
    "data that is not there": (["--set=data.path=/no/such/data"], "/no/such/data"),
    "unknown group": (["--set=space.groups=['fc9']"], "matches no layer"),
    "unknown profile": (["--cluster=lokal"], "did you mean 'local'"),
    "a trial that fits nowhere": (["--set=resources.cpus=4096"], "4096"),
    "a folder that cannot be": (["--storage=/proc/nothing/here"], "/proc/nothing/here"),
    "warm start from nothing": (["--set=search.warm_start=['/no/such/run']"], "no experiment is here"),
}


@pytest.mark.parametrize(("options", "sentence"), CASES.values(), ids=CASES.keys())
def test_each_mistake_is_one_line_and_exit_code_2(options, sentence, call, world):
    code, err = call("launch", world / "spec.yaml", "--storage", world / "run", *options)
    assert code == 2
    assert err.startswith("rps-search: ")
    assert len(err.splitlines()) == 1, err
    assert sentence in err


def test_a_parquet_file_without_the_columns_names_those_it_has(call, world):
    write(world / "train.parquet", img=jpegs(9), label=[0, 1, 2] * 3)
    code, err = call("launch", world / "spec.yaml", "--storage", world / "run")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "img" in err


def test_corrupt_images_are_refused_above_the_fraction_the_spec_sets(call, world):
    images = jpegs(90)
    images[7] = b"no image"
    write(world / "train.parquet", image=images, label=[n % 3 for n in range(90)])
    code, err = call("launch", world / "spec.yaml", "--storage", world / "run")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "max_corrupt_fraction" in err


def test_a_file_that_is_no_parquet_is_named(call, world):
    (world / "train.parquet").write_bytes(b"PAR1 and then nothing")
    code, err = call("launch", world / "spec.yaml", "--storage", world / "run")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "train.parquet" in err


def test_a_folder_of_another_experiment_is_left_as_it_was(call, world):
    run = world / "run"
    create_or_open(Folder(run), load_spec(str(world / "spec.yaml")))[0].save()
    (run / "results").mkdir()
    (run / "results" / "meta.json").write_text("{}")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    code, err = call("launch", world / "spec.yaml", "--storage", run, "--set=train.epochs=7")
    assert code == 2
    assert "train.epochs was 1, now 7" in err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("command", ["resume", "status", "report", "frontier", "check"])
def test_a_folder_that_is_no_experiment(command, call, tmp_path):
    code, err = call(command, tmp_path)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", [["lunch"], ["launch"], ["launch", "x", "--nope"], ["launch", "quikstart"]])
def test_a_command_line_that_makes_no_sense(arguments, call):
    code, err = call(*arguments)
    assert code == 2
    assert len(err.splitlines()) == 1


def test_a_damaged_table_is_not_gone_on_from(call, world):
    run = world / "run"
    create_or_open(Folder(run), load_spec(str(world / "spec.yaml")))[0].save()
    (run / "results" / "trials").mkdir(parents=True)
    (run / "results" / "trials" / "00000000000000000001-1-abcdef01.parquet").write_bytes(b"PAR1 torn")
    (run / "checkpoints" / "models").mkdir(parents=True)
    (run / "checkpoints" / "models" / "a.safetensors").write_bytes(b"precious")
    code, err = call("resume", run)
    assert code == 2
    assert err.splitlines()[-1].endswith(f"rps-search check {run} --repair")
    assert (run / "checkpoints" / "models" / "a.safetensors").read_bytes() == b"precious"


def test_the_readmes_spec_is_valid():
    text = (Path(__file__).parents[3] / "README.md").read_text()
    example = text.split("```yaml\n")[1].split("```")[0]
    assert parse_spec(example).repeats == 3


@pytest.mark.parametrize("arguments", [["--help"], ["schema"], ["schema", "--table", "trials"]])
def test_a_reader_that_has_seen_enough_is_no_error(arguments):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "search.cli.app", *arguments]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
