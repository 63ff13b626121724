import pytest

from clusters.yaml_text import dump_yaml, parse_yaml


@pytest.mark.parametrize("text", ["1e-3", "1E3", "-2e5", "+.5e1", "2.e0", "1.5e+2"])
def test_numbers_with_exponents_are_numbers_wherever_they_stand(text):
    assert parse_yaml(text) == float(text)
    assert parse_yaml(f"{{a: [{text}], b: {{c: {text}}}}}") == {"a": [float(text)], "b": {"c": float(text)}}


@pytest.mark.parametrize("text", ["e5", "1e", "1e5x", "1e5e5", "nan", "inf", "infinity", "1e-", "v1e5"])
def test_what_only_looks_like_a_number_stays_text(text):
    assert parse_yaml(f"[{text}, 'end']")[0] == text
    assert parse_yaml("'1e5'") == "1e5"


@pytest.mark.parametrize("value", ["1e5", "1e-3", ".5E1", "no", "1:30", "~", "1", "ü", 1e-3, 1e22, 1e-300, True, None])
def test_what_is_written_is_read_as_it_was(value):
    content = {"z": value, "a": [value, {"b": value}]}
    for ascii_only in (False, True):
        again = parse_yaml(dump_yaml(content, ascii_only=ascii_only))
        assert again == content
        assert list(again) == ["z", "a"]
        assert type(again["z"]) is type(value)
    assert dump_yaml("ü", ascii_only=True).isascii()


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {b: {c: *a}}", "&a [1, [*a]]"])
def test_what_holds_itself_is_refused(text):
    with pytest.raises(ValueError, match=r"an alias \(\*\) stands within what it repeats"):
        parse_yaml(text)


def test_what_is_said_twice_by_an_alias_is_no_circle():
    assert parse_yaml("{a: &a [1], b: *a, c: {d: *a}}") == {"a": [1], "b": [1], "c": {"d": [1]}}
