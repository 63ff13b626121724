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


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("resnet21", "unknown model 'resnet21': did you mean 'resnet20'"),
        ("no_such_package:f", "cannot import no_such_package"),
        ("collections:nothing", "collections has no function 'nothing'"),
    ],
)
def test_what_cannot_be_found_is_named(name, sentence):
    with pytest.raises(UserError, match=sentence):
        resolve("model", name, MODELS)


@pytest.mark.parametrize("name", ["os.system('x')", "a:b:c", ":f", "a:", "a-b:f"])
def test_a_name_that_is_no_dotted_path_is_refused_before_anything_is_imported(name):
    with pytest.raises(ValueError, match="unknown model"):
        check_name("model", name, MODELS)
