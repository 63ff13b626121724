"""Tables that were recorded by earlier versions."""

from pathlib import Path

import pytest

from search.driver.ledger import Ledger
from search.exporting.trust import config_of
from search.results.load import load

RESULTS = Path(__file__).parents[3] / "docs" / "results"
FOLDERS = sorted(str(path.parents[1].relative_to(RESULTS)) for path in RESULTS.rglob("results/trials"))


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_ids_of_recorded_trials_still_are_those_of_their_configurations(folder):
    rows = load(RESULTS / folder).trials.to_pylist()
    assert rows
    assert all(config_of(row).trial_id == row["trial_id"] for row in rows)


def test_trials_under_the_ids_of_another_version_are_known(make_spec, make_proposer, end_of):
    spec = make_spec(trials=4, repeats=2)
    ledger = Ledger(spec, make_proposer(spec))
    rows, journal = [], []
    while (run := ledger.next()) is not None:
        rows.append({**end_of(run), "trial_id": f"of-old-{len(rows)}"})
        journal.append({**run.journal_row("test"), "trial_id": rows[-1]["trial_id"]})
        ledger.record(run, end_of(run))
    again = Ledger(spec, make_proposer(spec), journal=journal, finished=rows)
    assert again.complete
    assert again.next() is None
