import json

import pytest
import yaml

from search.config import describe_config
from search.errors import UserError
from search.exporting import config_of, refuse_foreign_code
from search.results import Folder, ResultStore
from search.spec import DataSpec, ModelSpec
from tests.search.exporting import conftest

OWN = "tests.search.cli.tiny:images"
BAD = {
    "method": {"method": "subprocess:getoutput"},
    "model": {"model": ModelSpec(name="os.path:join")},
    "model of a module that only begins alike": {"model": ModelSpec(name="torchvision.models.x:f")},
    "data set": {"data": DataSpec(name="subprocess:getoutput")},
    "method that is one of the harmless models": {"method": "torchvision.models:resnet18"},
    "data set that is one of the harmless models": {"data": DataSpec(name="torchvision.models:resnet18")},
}


@pytest.mark.parametrize("case", BAD)
def test_functions_outside_the_registries_are_refused(case):
    config = conftest.config_of(**{"method": "rps", **BAD[case]})
    with pytest.raises(UserError, match=rf"it: would run code of its own, {case[:5]}.*; add --allow-code if you trust"):
        refuse_foreign_code(config, "it")


def test_what_ships_with_the_package_and_torchvision_models_are_not():
    refuse_foreign_code(conftest.config_of("ltr"), "it")
    refuse_foreign_code(conftest.config_of("rps", model=ModelSpec(name="torchvision.models:resnet18")), "it")


def test_a_model_that_names_code_is_evaluated_only_when_that_is_allowed(call, runs, refused, tmp_path):
    out = tmp_path / "out"
    trial = conftest.config_of("rps").trial_id
    assert call("export", runs, "--trial", trial, "--out", out)[0] == 0
    facts = json.loads((out / "model.json").read_text())
    facts["config"]["data"]["name"] = f"{__name__}:leave_a_trace"
    facts["config"]["data"]["path"] = str(tmp_path / "trace")
    (out / "model.json").write_text(json.dumps(facts))
    said = refused("evaluate", out)
    assert "would run code of its own, data set" in said
    assert not (tmp_path / "trace").exists()
    refused("evaluate", out, "--allow-code")
    assert (tmp_path / "trace").exists()


def leave_a_trace(spec):
    with open(spec.path, "x"):
        raise UserError("called")


@pytest.mark.parametrize("command", ["export", "replay"])
def test_an_experiment_that_names_code_is_used_only_when_that_is_allowed(command, call, runs, refused, tmp_path):
    config = conftest.config_of("rand", data=DataSpec(name=OWN))
    from search.data import load_dataset
    from search.driver.exchange import model_path

    result = conftest.trained(config, load_dataset(config.data))
    Folder(runs).write_whole(model_path(config.trial_id), result.model_file)
    ResultStore(Folder(runs)).append("trials", [result.row | {"experiment": "runs"}])
    spec = yaml.safe_load((runs / "spec.yaml").read_text())
    spec["data"]["name"] = OWN
    (runs / "spec.yaml").write_text(yaml.safe_dump(spec))
    words = [command, runs, "--trial", config.trial_id, *(["--out", tmp_path / "out"] if command == "export" else [])]
    assert f"would run code of its own, data set '{OWN}'" in refused(*words)
    assert not (tmp_path / "out").exists()
    assert call(*words, "--allow-code")[0] == 0


def test_a_row_with_the_configuration_of_another_trial_is_refused():
    row = describe_config(conftest.config_of("rps"))
    assert config_of(row) == conftest.config_of("rps")
    with pytest.raises(UserError, match=r"trial '../x': its row holds the configuration of another trial"):
        config_of(row | {"trial_id": "../x"})
    for damaged in (None, "", "{}", "[1]"):
        with pytest.raises(UserError, match="holds no configuration that can be read"):
            config_of(row | {"config_json": damaged})
