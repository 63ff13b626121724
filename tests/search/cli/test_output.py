import io
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from search.cli.output import TABLE_ROWS, Format, format_table, printable, write
from search.errors import UserError

ANSWER = pa.table(
    {
        "name": ["<b>é", 'say "hi",\n', "\x1b[31mred\x9b\u202eevil", None],
        "value": [0.5, float("nan"), float("inf"), None],
        "kept": pa.array([[("a", 1)], [], None, [("b", 2)]], pa.map_(pa.string(), pa.int64())),
    }
)


@pytest.fixture
def written(tmp_path: Path) -> Callable[[pa.Table, str, Format | None], Path]:
    def to(table: pa.Table, name: str, form: Format | None = None) -> Path:
        write(table.to_reader(), form, str(tmp_path / name))
        assert [path.name for path in tmp_path.iterdir()] == [name]
        return tmp_path / name

    return to


def test_tables_are_aligned_and_steer_no_terminal(written) -> None:
    text = written(ANSWER, "x.txt").read_text()
    lines = text.splitlines()
    assert len(lines) == 5
    assert all(line.isprintable() for line in lines)
    assert "\\x1b[31mred\\x9b\\u202eevil" in text
    assert lines[1].split() == ["<b>é", "0.5", '{"a":', "1}"]
    assert lines[4].split() == ["-", "-", '{"b":', "2}"]


def test_json_is_strict(written) -> None:
    rows = json.loads(written(ANSWER, "x.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert [row["name"] for row in rows] == ANSWER["name"].to_pylist()
    assert [row["value"] for row in rows] == [0.5, None, None, None]
    assert [row["kept"] for row in rows] == [{"a": 1}, {}, None, {"b": 2}]
    assert json.loads(written(ANSWER.slice(0, 0), "x.json").read_text()) == []


@pytest.mark.parametrize("name", ["x.json", "x.parquet"])
def test_of_two_columns_of_one_name_none_is_dropped_without_a_word(written, tmp_path, name) -> None:
    twice = pa.table([[1], [2]], names=["loss", "loss"])
    with pytest.raises(UserError, match="two columns are named 'loss': name one with AS"):
        written(twice, name)
    assert not list(tmp_path.iterdir())
    assert written(twice, "x.csv").read_text().splitlines() == ['"loss","loss"', "1,2"]


def test_csv_can_be_read_again(written) -> None:
    options = csv.ParseOptions(newlines_in_values=True)
    again = csv.read_csv(
        written(ANSWER, "x.csv"),
        parse_options=options,
        convert_options=csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False),
    )
    assert again["name"].to_pylist() == ANSWER["name"].to_pylist()
    assert again["kept"].to_pylist() == ['{"a": 1}', "{}", None, '{"b": 2}']


def test_decimals_keep_their_digits(written) -> None:
    digits = "12345678901234567890.1234567890"
    table = pa.table({"a": [Decimal(digits)], "b": [Decimal(9542)], "c": [[Decimal("0.10")]]})
    assert written(table, "x.csv").read_text().splitlines()[1] == f'"{digits}","9542","[0.10]"'
    (row,) = json.loads(written(table, "x.csv", Format.JSON).read_text(), parse_float=str)
    assert row == {"a": digits, "b": 9542, "c": ["0.10"]}


def test_parquet_is_the_answer_itself(written) -> None:
    assert parquet.read_table(written(ANSWER, "x.parquet")).slice(0, 1).equals(ANSWER.slice(0, 1))
    assert parquet.read_table(written(ANSWER, "x.parquet", Format.PARQUET)).num_rows == 4


class Screen(io.BytesIO):
    def isatty(self) -> bool:
        return True


def test_cells_are_whole_where_no_screen_has_an_edge(written, monkeypatch) -> None:
    long = pa.table({"text": ["x" * 200]})
    assert written(long, "x.txt").read_text().splitlines()[1] == "x" * 200
    screen = Screen()
    monkeypatch.setattr("sys.stdout", type("Stdout", (), {"buffer": screen})())
    write(long.to_reader(), None, None)
    assert screen.getvalue().decode().splitlines()[1] == "x" * 47 + "…"


def test_the_drawing_of_a_plan_keeps_its_lines(written) -> None:
    plan = pa.table({"explain_key": ["physical_plan"], "explain_value": ["┌───┐\n│ a │\n└───┘"]})
    assert written(plan, "x.txt").read_text() == "┌───┐\n│ a │\n└───┘\n"


def test_csv_on_a_screen_has_no_control_characters(capsys: pytest.CaptureFixture, monkeypatch) -> None:
    screen = Screen()
    monkeypatch.setattr("sys.stdout", type("Stdout", (), {"buffer": screen})())
    write(ANSWER.to_reader(), Format.CSV, None)
    assert b"\x1b" not in screen.getvalue()
    assert b"\\x1b[31mred" in screen.getvalue()


def test_long_tables_say_that_they_are_cut(written, capsys: pytest.CaptureFixture) -> None:
    long = pa.table({"x": range(TABLE_ROWS + 1)})
    assert len(written(long, "x.txt").read_text().splitlines()) == TABLE_ROWS + 1
    assert "only the first 200 rows" in capsys.readouterr().err


def test_what_cannot_be_written_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"add --out FILE.parquet"):
        write(ANSWER.to_reader(), Format.PARQUET, None)
    with pytest.raises(UserError, match="cannot be written: No such file"):
        write(ANSWER.to_reader(), None, str(tmp_path / "no" / "x.csv"))
    interval = pa.table({"i": pa.array([None], pa.month_day_nano_interval())})
    with pytest.raises(UserError, match=r"cannot be written as parquet: .*cast the column"):
        write(interval.to_reader(), Format.PARQUET, str(tmp_path / "x"))
    assert list(tmp_path.iterdir()) == []


def test_odd_times_are_shown() -> None:
    table = pa.table({"t": pa.array([2**63 - 1, 0], pa.timestamp("us"))})
    assert "1970-01-01" in format_table(table)


@pytest.mark.parametrize(
    ("text", "shown"), [("plain é", "plain é"), ("a\tb\r\n", "a\\tb\\r\\n"), ("\x00\x7f", "\\x00\\x7f")]
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown
