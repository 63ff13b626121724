import hashlib

import pytest

from search.driver.experiment import create_or_open, open_experiment
from search.driver.weights import pin_weights, read_weights
from search.errors import UserError
from search.results.folder import Folder
from search.spec import ModelSpec


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "dense.safetensors"
    path.write_bytes(b"first")
    return path


@pytest.fixture
def spec(make_spec, file):
    return make_spec(model={"args": {"hidden": [16]}, "weights": str(file)})


def test_a_spec_without_weights_stays_as_it_is(make_spec):
    assert read_weights(ModelSpec()) is None
    assert pin_weights(make_spec()) == make_spec()


def test_the_file_is_read_by_its_path_and_by_a_uri(file, monkeypatch):
    assert read_weights(ModelSpec(weights=str(file))) == b"first"
    assert read_weights(ModelSpec(weights=file.as_uri())) == b"first"
    monkeypatch.chdir(file.parent)
    assert read_weights(ModelSpec(weights=file.name)) == b"first"


def test_what_cannot_be_read_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"model\.weights: .*nowhere does not exist"):
        read_weights(ModelSpec(weights=str(tmp_path / "nowhere")))
    with pytest.raises(UserError, match=r"model\.weights: .* cannot be read"):
        read_weights(ModelSpec(weights=str(tmp_path)))
    with pytest.raises(UserError, match=r"model\.weights: .* cannot be read|not a URI"):
        read_weights(ModelSpec(weights="nonsense://a/b"))


def test_an_experiment_holds_to_the_content_that_it_started_with(spec, file, tmp_path):
    folder = Folder(tmp_path / "run")
    experiment, _ = create_or_open(folder, spec)
    experiment.save()
    assert experiment.spec.model.weights_sha256 == hashlib.sha256(b"first").hexdigest()
    assert create_or_open(folder, spec)[1], "the same launch again goes on"
    file.write_bytes(b"second")
    with pytest.raises(UserError, match=r"other content than this search started with"):
        read_weights(open_experiment(folder).spec.model)
    with pytest.raises(UserError, match=r"holds another experiment \(model\.weights_sha256 was"):
        create_or_open(folder, spec)


def test_the_file_may_move(spec, file, tmp_path):
    folder = Folder(tmp_path / "run")
    create_or_open(folder, spec)[0].save()
    moved = file.rename(tmp_path / "moved")
    assert read_weights(open_experiment(folder, [f"model.weights={moved}"]).spec.model) == b"first"
