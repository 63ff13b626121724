import pytest
import yaml

from search.driver.experiment import SPEC, create_or_open, open_experiment
from search.errors import UserError
from search.results.folder import Folder


@pytest.fixture
def folder(tmp_path):
    return Folder(str(tmp_path / "run"))


def begin(folder, spec):
    """Create or open an experiment and save it, as the driver does once the spec was tried on the data."""
    experiment, existed = create_or_open(folder, spec)
    experiment.save()
    return experiment, existed


def test_the_spec_is_stored_with_versions_and_read_back(folder, make_spec):
    made, existed = begin(folder, make_spec())
    assert not existed
    found = open_experiment(folder)
    assert found.spec == made.spec
    assert found.spec.model_copy(update={"provenance": None}) == make_spec()
    assert {"torch", "ray", "optuna"} <= found.spec.provenance.versions.keys()


def test_the_same_spec_again_goes_on(folder, make_spec):
    made, _ = begin(folder, make_spec())
    again, existed = begin(folder, make_spec())
    assert existed
    assert again.spec.provenance == made.spec.provenance


def test_what_does_not_change_what_was_trained_may_change(folder, make_spec):
    begin(folder, make_spec())
    changed, _ = begin(folder, make_spec(trials=60, failures={"retries": 0}, disk_budget="1GB"))
    assert changed.spec.trials == 60
    assert open_experiment(folder).spec.trials == 60
    assert open_experiment(folder, ["trials=80"]).spec.trials == 80
    assert open_experiment(folder).spec.trials == 60, "a change is written by the driver that holds the folder"


def test_a_search_goes_on_when_what_it_started_from_has_moved(folder, make_spec):
    begin(folder, make_spec(search={"warm_start": ["old"]}))
    assert open_experiment(folder, ["search.warm_start=[new]"]).spec.search.warm_start == ["new"]
    with pytest.raises(UserError, match=r"another experiment \(search\.sampler was"):
        open_experiment(folder, ["search.sampler=gp"])


def test_a_launch_that_fails_before_its_first_trial_leaves_no_experiment_behind(folder, make_spec):
    create_or_open(folder, make_spec(trials=3))
    _, existed = create_or_open(folder, make_spec(trials=4))
    assert not existed
    assert folder.list(recursive=True) == []


def test_results_without_their_spec_are_no_place_for_another_search(folder, make_spec):
    folder.write_whole("results/trials/part.parquet", b"x")
    with pytest.raises(UserError, match=r"holds 'results/trials/part\.parquet' but no spec\.yaml"):
        create_or_open(folder, make_spec())


def test_another_experiment_is_refused_with_both_values_and_stays_as_it_was(folder, make_spec):
    begin(folder, make_spec())
    before = folder.read(SPEC)
    with pytest.raises(UserError, match=r"another experiment \(train\.epochs was 2, now 3\)"):
        begin(folder, make_spec(train={"epochs": 3, "batch_size": 16}))
    assert folder.read(SPEC) == before


def test_a_folder_with_other_things_in_it_is_refused(folder, make_spec):
    folder.write_whole("thesis.tex", b"x")
    with pytest.raises(UserError, match=r"holds 'thesis\.tex' but no spec\.yaml"):
        begin(folder, make_spec())
    assert [entry.path for entry in folder.list()] == ["thesis.tex"]


def test_a_folder_that_is_no_experiment_cannot_be_resumed(folder):
    with pytest.raises(UserError, match=r"no experiment is here \(spec\.yaml is missing\)"):
        open_experiment(folder)


def test_tables_of_a_newer_version_are_refused(folder, make_spec):
    begin(folder, make_spec())
    content = yaml.safe_load(folder.read(SPEC))
    content["provenance"]["schema_version"] = 999
    folder.write_whole(SPEC, yaml.safe_dump(content).encode())
    with pytest.raises(UserError, match="tables of version 999"):
        open_experiment(folder)
