import random

import pyarrow as pa
import pytest

from search.results import TABLES
from search.results.parts import (
    DamagedPartError,
    NewerSchemaError,
    PartName,
    decode,
    encode,
    read_footer,
    rows_to_table,
    unique_rows,
)


def read(data: bytes, name: PartName) -> pa.Table:
    file = pa.BufferReader(data)
    return decode(file, "trials", read_footer(file, "trials", name), TABLES["trials"].names)


def test_rows_survive_the_way_to_bytes_and_back(trial) -> None:
    table = rows_to_table("trials", [trial(0), trial(1, accuracy=float("nan"), budgets=None, error="é\x1b[31m<b>")])
    name, data = encode("trials", table, 5)
    assert str(name).startswith("00000000000000000005-2-")
    assert PartName.parse(str(name)) == name
    assert read(data, name).to_pylist()[0] == table.to_pylist()[0]
    assert read(data, name).schema.equals(TABLES["trials"])
    assert read(data, name)["error"].to_pylist() == [None, "é\x1b[31m<b>"]


@pytest.mark.parametrize("name", ["x.parquet", "5-2-0.parquet", "00000000000000000005-2-0123abcd.parquet.tmp", ""])
def test_other_names_are_no_parts(name: str) -> None:
    assert PartName.parse(name) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"acuracy": 1.0}, "trials has no column acuracy; it has trial_id"),
        ({"trial_id": None}, "trials.trial_id must have a value in every row, but row 1 has none"),
        ({"accuracy": "high"}, "trials.accuracy takes double only"),
        ({"stored_bytes": 2**70}, "trials.stored_bytes takes int64 only"),
        ({"budgets": {"a": "b"}}, "trials.budgets takes map<string, int64> only"),
    ],
)
def test_rows_that_do_not_fit_are_refused(trial, changes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rows_to_table("trials", [trial(0), trial(1, **changes)])


def test_of_equal_keys_the_first_row_stays(trial) -> None:
    rows = [trial(3), trial(1), trial(3, lr=9.0), trial(2), trial(3, experiment="other")]
    kept = unique_rows("trials", rows_to_table("trials", rows))
    assert [(row["number"], row["lr"], row["experiment"]) for row in kept.to_pylist()] == [
        (3, 0.1, "e"),
        (1, 0.1, "e"),
        (2, 0.1, "e"),
        (3, 0.1, "other"),
    ]


def test_no_mutation_is_taken_for_data(trial) -> None:
    """Of 400 damaged files each is refused or gives exactly the rows that were written."""
    table = rows_to_table("trials", [trial(i) for i in range(50)])
    name, data = encode("trials", table, 5)
    written = read(data, name).to_pylist()
    draw = random.Random(0)
    refused = 0
    for case in range(400):
        damaged = bytearray(data)
        if case % 4 == 0:
            del damaged[draw.randrange(len(damaged)) :]
        elif case % 4 == 1:
            start = draw.randrange(len(damaged))
            damaged[start : start + 64] = bytes(min(64, len(damaged) - start))
        else:
            for _ in range(draw.choice([1, 3, 50])):
                damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        try:
            assert read(bytes(damaged), name).to_pylist() == written
        except DamagedPartError:
            refused += 1
    assert refused > 350


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" * 3, b"no parquet at all" * 10])
def test_foreign_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(DamagedPartError):
        read(data, PartName(0, 1, 0, compacted=False))


def test_parts_of_another_table_are_refused() -> None:
    table = rows_to_table("epochs", [{"trial_id": "a", "experiment": "e", "epoch": 1}])
    name, data = encode("epochs", table, 5)
    with pytest.raises(DamagedPartError, match="no part of the table trials"):
        read(data, name)


def test_a_newer_version_is_refused_with_both_versions(trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.results.parts.SCHEMA_VERSION", 2)
    name, data = encode("trials", rows_to_table("trials", [trial(0)]), 5)
    monkeypatch.undo()
    with pytest.raises(NewerSchemaError, match="have version 2, this package reads up to 1"):
        read(data, name)


def test_columns_that_an_older_writer_did_not_know_are_null(trial) -> None:
    table = rows_to_table("trials", [trial(0)]).drop_columns(["flops", "budgets"])
    name, data = encode("trials", table, 5)
    assert read(data, name)["flops"].to_pylist() == [None]
    assert read(data, name)["budgets"].to_pylist() == [None]
    assert read(data, name)["lr"].to_pylist() == [0.1]
