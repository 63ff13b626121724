import sys

import pytest

from search.errors import UserError
from search.registry import DATASETS, METHODS, MODELS, check_name, resolve


@pytest.mark.parametrize(
    ("what", "table"), [("method", METHODS), ("model", MODELS), ("data set", DATASETS)], ids=lambda v: str(v)[:8]
)
def test_every_registered_name_leads_to_a_function(what, table):
    for name in table:
        assert callable(resolve(what, name, table))


def test_a_users_function_is_found():
    assert resolve("model", "collections:OrderedDict", MODELS).__name__ == "OrderedDict"


def test_a_users_function_is_found_in_the_current_folder_and_what_breaks_its_module_is_named(tmp_path, monkeypatch):
    (tmp_path / "mine_found.py").write_text("def net(): return 7\n")
    (tmp_path / "mine_broken.py").write_text("def net(: return 7\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = list(sys.path)
    with pytest.raises(
        UserError, match=r"cannot import mine_missing .* must lie in the current folder or on PYTHONPATH"
    ):
        resolve("model", "mine_missing:net", MODELS)
    assert sys.path == before
    assert resolve("model", "mine_found:net", MODELS)() == 7
    assert sys.path == [*before, str(tmp_path)], "what is installed comes before files that are called like it"
    with pytest.raises(UserError, match="cannot import mine_broken"):
        resolve("model", "mine_broken:net", MODELS)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("resnet21", "unknown model 'resnet21': did you mean 'resnet20'"),
        ("no_such_package:f", "cannot import no_such_package"),
        ("collections:nothing", "collections has no function 'nothing'"),
        ("string:digits", "must be a function, but digits is '0123456789' in string"),
    ],
)
def test_what_cannot_be_found_is_named(name, sentence):
    with pytest.raises(UserError, match=sentence):
        resolve("model", name, MODELS)


@pytest.mark.parametrize("name", ["os.system('x')", "a:b:c", ":f", "a:", "a-b:f"])
def test_a_name_that_is_no_dotted_path_is_refused_before_anything_is_imported(name):
    with pytest.raises(ValueError, match="unknown model"):
        check_name("model", name, MODELS)
