import pytest

from search.cli.trial_ids import the_trial
from search.errors import UserError

KNOWN = ["aa11", "aa22", "b333"]


def test_the_beginning_of_an_id_is_enough_where_it_is_the_only_one():
    assert the_trial("b", KNOWN) == "b333"
    assert the_trial("aa22", KNOWN) == "aa22"


@pytest.mark.parametrize(
    ("given", "known", "sentence"),
    [
        ("aa", KNOWN, "--trial aa: 2 trials begin so; write more of the id"),
        ("b334", KNOWN, "--trial: unknown finished trial 'b334': did you mean 'b333'"),
        ("", KNOWN, "unknown finished trial ''"),
        ("b", [], "there is no finished trial yet"),
    ],
)
def test_what_names_none_or_several_is_refused(given, known, sentence):
    with pytest.raises(UserError, match=sentence):
        the_trial(given, known, "finished trial")
