from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import search.report.proposals as proposals_module
from search.errors import UserError
from search.report import Facts, gather
from search.report.html import render
from search.results import Folder, ResultStore, load
from tests.search.report.demo import DENSE_BYTES, LAYERS, START, write_demo


def trial(number: int, **values: Any) -> dict[str, Any]:
    """A finished trial of rps; ``values`` override."""
    row = {
        "trial_id": f"t{number}", "experiment": "e", "number": number, "status": "finished", "method": "rps",
        "model": "mlp", "dataset": "digits", "seed": number, "ratio": 10.0, "lr": 0.5, "weight_decay": 1e-4,
        "accuracy": 0.8, "accuracy_val": 0.8, "stored_bytes": 1000, "stored_parameters": 250, "started_at": START,
        "finished_at": START,
    }  # fmt: skip
    return {**row, **values}


def experiment(folder: Path, rows: list[dict[str, Any]], meta: dict[str, Any] | None = None) -> Path:
    ResultStore(Folder(folder)).append("trials", rows)
    (folder / "results" / "meta.json").write_text(json.dumps(meta or {}), encoding="utf-8")
    return folder


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_headline_is_the_knee_against_the_dense_model(tmp_path: Path) -> None:
    rows = [
        trial(0, method="dense", ratio=1.0, accuracy=0.95, accuracy_val=0.95, stored_bytes=100_000),
        trial(1, accuracy=0.60, accuracy_val=0.60, stored_bytes=1_000),
        trial(2, accuracy=0.90, accuracy_val=0.90, stored_bytes=4_000),
        trial(3, accuracy=0.91, accuracy_val=0.91, stored_bytes=60_000),
    ]
    facts = gather([experiment(tmp_path / "e", rows, {"dense_bytes": 100_000})])
    assert plain(facts.headline) == "rps reaches 90.0 % in 4 kB: 5.0 points below the dense model, 25 times smaller"
    assert [facts.points[i].trials[0] for i in facts.fronts["stored_bytes"].overall] == ["t1", "t2", "t3", "t0"]
    labels = {pick.label: pick.trial for pick in facts.picks if pick.measure == "stored_bytes"}
    assert labels == {"knee": "t2", "most accurate": "t3"}


def test_a_model_that_beats_all_is_shown_beside_those_it_beats(tmp_path: Path) -> None:
    rows = [trial(0), trial(1, method="rand", accuracy=0.3, accuracy_val=0.3), trial(2, accuracy=0.1, accuracy_val=0.1)]
    focus = gather([experiment(tmp_path / "e", rows, {"dense_bytes": 9_000})]).focus
    assert (min(focus), max(focus)) == (0.3, 0.8), "not alone, and failures to learn do not squeeze it"


def test_questions_with_one_answer_share_it_and_the_spec_names_a_budget(tmp_path: Path) -> None:
    rows = [
        trial(0, method="dense", accuracy=0.8, accuracy_val=0.8, stored_bytes=9_000),
        trial(1, accuracy=0.8, accuracy_val=0.8, stored_bytes=1_900),
        trial(2, accuracy=0.5, accuracy_val=0.5, stored_bytes=500),
    ]
    folder = experiment(tmp_path / "e", rows, {"dense_bytes": 9_000})
    (folder / "spec.yaml").write_text("objectives: {max_bytes: 2kB}", encoding="utf-8")
    facts = gather([folder])
    first = facts.picks[0]
    assert (first.trial, first.label) == ("t1", "best in budget · near dense · most accurate")
    assert plain(facts.headline).startswith("rps reaches 80.0 % in 1.9 kB: as accurate as the dense model")


def test_points_carry_seeds_budgets_and_trials_of_their_proposal(tmp_path: Path) -> None:
    rows = [
        trial(0, trial_id=f"r{seed}", seed=seed, accuracy=0.7 + 0.1 * seed, budgets={"fc*": 9}) for seed in range(3)
    ]
    rows.append(trial(0, trial_id="x", seed=9, status="failed", accuracy=None))
    facts = gather([experiment(tmp_path / "e", rows)])
    (point,) = facts.points
    assert point.accuracy == pytest.approx(0.8)
    assert sorted(point.trials) == ["r0", "r1", "r2"]
    assert sorted(point.seeds) == [0, 1, 2]
    assert point.budgets == {"fc*": 9}
    assert point.low is not None
    assert point.low < 0.7


def test_every_section_of_a_full_search(facts: Facts) -> None:
    (dense,) = facts.dense
    assert dense.accuracy == pytest.approx(0.914, abs=0.01)
    assert dense.stored_bytes == DENSE_BYTES
    assert {facts.methods[series.method].name for series in facts.ratios} == {
        "rps", "synflow", "snip", "mag", "rand", "small",
    }  # fmt: skip
    assert facts.gaps is not None
    assert facts.gaps.leader == "rps"
    assert facts.budgets is not None
    assert facts.budgets.layers == list(LAYERS)
    assert facts.importances is not None
    assert {"method", "learning rate", "budget of fc"} <= {row.name for row in facts.importances.rows}
    volumes = [volume for _, volume in facts.history]
    assert volumes == sorted(volumes)
    assert sum(curve.frontier for curve in facts.curves) >= 5
    assert facts.times is not None
    assert facts.failures
    assert facts.reproduce[0].commands[0].startswith("rps-search launch ")


def test_budgets_are_shares_of_each_layers_weights(facts: Facts) -> None:
    assert facts.budgets is not None
    for row, layer in zip(facts.budgets.values, facts.budgets.layers, strict=True):
        for value, column in zip(row, facts.budgets.columns, strict=True):
            assert value == facts.points[column].budgets[layer] / LAYERS[layer]
            assert value is not None
            assert 0 < value <= 1


def test_lines_over_ratio_hold_the_best_of_each_range(facts: Facts) -> None:
    for series in facts.ratios:
        own = [point for point in facts.points if point.method == series.method]
        assert sum(point.proposals for point in series.points) == len(own)
        for point in series.points:
            inside = [p for p in own if p.ratio is not None and point.start <= p.ratio <= point.end]
            assert max(p.accuracy_val for p in inside) == next(
                p.accuracy_val for p in inside if p.trials[0] == point.trial
            )


def test_gaps_compare_the_headlines_method_whichever_way_they_go(tmp_path: Path) -> None:
    rows = [trial(n, accuracy=0.5 + n / 20, accuracy_val=0.5 + n / 20, stored_bytes=1000 * 2**n) for n in range(4)]
    rows += [
        trial(9, method="snip", accuracy=0.45, accuracy_val=0.45, stored_bytes=2000),
        trial(10, method="snip", accuracy=0.50, accuracy_val=0.50, stored_bytes=4000),
    ]
    gaps = gather([experiment(tmp_path / "e", rows)]).gaps
    assert gaps is not None
    assert gaps.leader == "rps"
    ((name, cells),) = gaps.rows
    assert (name, cells[:2], plain(cells[2])) == ("over snip", ["+10.0", "+10.0 to +10.0"], "2 kB to 4 kB")


def test_times_add_up_to_the_trials(demo_folder: Path, facts: Facts) -> None:
    trials = load(demo_folder).trials.to_pylist()
    assert facts.times is not None
    # A trial notes its start once its first attempt is set up.
    first = sum(row["setup_seconds"] / row["attempts"] for row in trials)
    wall = first + sum((row["finished_at"] - row["started_at"]).total_seconds() for row in trials)
    assert sum(sum(row.seconds) for row in facts.times.rows) == pytest.approx(wall)


def test_failures_that_differ_in_numbers_only_are_one_reason(tmp_path: Path) -> None:
    rows = [trial(n, status="failed", error=f"NaN in epoch {n} at lr={n}.5", accuracy=None) for n in range(4)]
    rows.append(trial(9, status="failed", error="the node vanished", method="snip", accuracy=None))
    facts = gather([experiment(tmp_path / "e", rows)])
    assert [(row.trials, row.reason, row.methods) for row in facts.failures] == [
        (4, "NaN in epoch 0 at lr=0.5", "rps"),
        (1, "the node vanished", "snip"),
    ]
    assert "5 failed" in facts.empty


def test_a_search_of_no_trials_says_so(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text("name: young", encoding="utf-8")
    facts = gather([tmp_path])
    assert facts.headline == "No finished trial yet"
    assert "no trial yet" in facts.empty
    assert facts.points == []
    assert facts.failures_note == "None of 0 trials failed."


def test_numbers_that_are_none_draw_nothing(tmp_path: Path) -> None:
    odd = [float("nan"), float("inf"), None]
    rows = [trial(n, accuracy=value) for n, value in enumerate(odd)]
    rows.append(trial(9, train_seconds=float("nan"), ratio=float("nan"), lr=float("inf")))
    facts = gather([experiment(tmp_path / "e", rows)])
    assert [point.trials for point in facts.points] == [["t9"]]
    assert facts.ratios == []
    assert (facts.points[0].ratio, facts.points[0].lr) == (None, None)


def test_a_spec_of_another_version_costs_no_results(tmp_path: Path) -> None:
    folder = experiment(tmp_path / "e", [trial(0)])
    (folder / "spec.yaml").write_text("name: e\nnew_field: 1", encoding="utf-8")
    facts = gather([folder])
    assert len(facts.points) == 1
    assert "new_field: unknown field" in facts.notes[0]
    assert facts.title == "e"


def test_only_the_dense_model(tmp_path: Path) -> None:
    facts = gather([experiment(tmp_path / "e", [trial(0, method="dense")])])
    assert facts.headline == "Only the dense model has finished"
    assert facts.picks == []


def test_different_data_cannot_be_compared(tmp_path: Path) -> None:
    one = experiment(tmp_path / "a", [trial(0)])
    other = experiment(tmp_path / "b", [trial(0, trial_id="u", dataset="cifar10")])
    with pytest.raises(UserError, match=r"these experiments used cifar10, digits; write one report for each"):
        gather([one, other])


def test_two_experiments_are_told_apart(tmp_path: Path) -> None:
    one = experiment(tmp_path / "a", [trial(0)])
    other = experiment(tmp_path / "b", [trial(0, trial_id="u", experiment="f", accuracy_val=0.9, stored_bytes=2000)])
    facts = gather([one, other])
    assert [point.experiment for point in facts.points] == ["e", "f"]
    assert [point.folder.rpartition("/")[2] for point in facts.points] == ["a", "b"]
    assert len(facts.reproduce) == 2


def test_searches_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    folders = [
        experiment(tmp_path / name, [trial(0, trial_id=f"{name}{seed}", seed=seed) for seed in seeds])
        for name, seeds in (("a", [0, 1]), ("b", [2]))
    ]
    facts = gather(folders)
    assert [(point.folder.rpartition("/")[2], point.trials, point.seeds) for point in facts.points] == [
        ("a", ["a0", "a1"], [0, 1]),
        ("b", ["b2"], [2]),
    ]


def test_experiments_that_share_a_trials_id_are_told_apart(tmp_path: Path) -> None:
    for name, accuracy in (("one", 0.9), ("two", 0.6)):
        rows = [trial(0, experiment=name, accuracy=accuracy, accuracy_val=accuracy)]
        if name == "two":
            rows.append(trial(1, experiment=name, accuracy=0.5, accuracy_val=0.5, stored_bytes=100))
        curve = [{"trial_id": "t0", "experiment": name, "epoch": 1, "accuracy_val": accuracy}]
        ResultStore(Folder(experiment(tmp_path / name, rows))).append("epochs", curve)
    facts = gather([tmp_path / "one", tmp_path / "two"])
    front = [facts.points[index] for index in facts.fronts["stored_bytes"].overall]
    assert [(point.experiment, point.accuracy) for point in front] == [("two", 0.5), ("one", 0.9)]
    assert plain(facts.headline) == "rps reaches 90.0 % in 1 kB"
    assert sorted((curve.frontier, curve.accuracy) for curve in facts.curves) == [(False, [0.6]), (True, [0.9])]


def test_what_is_picked_is_compressed_even_where_the_knee_is_not(tmp_path: Path) -> None:
    rows = [
        trial(0, accuracy=0.1, accuracy_val=0.1),
        trial(1, accuracy=0.2, accuracy_val=0.2, stored_bytes=5_000),
        trial(2, method="dense", accuracy=0.95, accuracy_val=0.95, stored_bytes=40_000),
        trial(3, method="mag", accuracy=0.96, accuracy_val=0.96, stored_bytes=10**9),
    ]
    facts = gather([experiment(tmp_path / "e", rows)])
    assert facts.picks
    assert "dense" not in {facts.methods[pick.method].name for pick in facts.picks}


def test_two_models_are_each_told_against_their_own_dense_one(tmp_path: Path) -> None:
    folders = []
    for model, weights, accuracy in (("little", 100, 0.8), ("big", 10_000, 0.9)):
        found = {"model": model, "accuracy": accuracy, "accuracy_val": accuracy, "budgets": {"fc": weights // 2}}
        rows = [
            trial(0, **found, trial_id=model, stored_bytes=2 * weights),
            trial(1, **{**found, "accuracy": accuracy + 0.05, "method": "dense"}, trial_id=f"{model}1",
                  stored_bytes=100 * weights),
        ]  # fmt: skip
        meta = {
            "dense_bytes": 100 * weights,
            "reference": {"accuracy": 0.1, "memory": 100 * weights},
            "layer_sizes": {"fc": weights},
        }
        folders.append(experiment(tmp_path / model, rows, meta))
    # A search without the dense model is compared with that of another on the same model.
    alone = trial(5, trial_id="alone", experiment="f", model="big", accuracy=0.7, accuracy_val=0.7)
    folders.append(experiment(tmp_path / "alone", [{**alone, "stored_bytes": 90}], meta))
    facts = gather(folders)
    assert [(one.label, one.accuracy) for one in facts.dense] == [
        ("dense little", pytest.approx(0.85)),
        ("dense big", pytest.approx(0.95)),
    ]
    assert [(point.trials[0], point.network) for point in facts.points] == [
        ("little", 0), ("little1", 0), ("big", 1), ("big1", 1), ("alone", 1),
    ]  # fmt: skip
    assert facts.budgets is not None
    assert facts.budgets.values == [[0.5] * len(facts.budgets.columns)]
    assert facts.history[-1][1] == pytest.approx(0.8866, abs=1e-4)  # of the box up to the larger model
    assert plain(facts.headline).endswith("5.0 points below the dense little model, 50 times smaller")
    assert {curve.label for curve in facts.dense} <= set(re.findall(r"dense \w+", render(facts)))


def test_layers_count_in_the_first_pattern_that_claims_them(tmp_path: Path) -> None:
    rows = [trial(0, budgets={"conv1": 50, "conv*": 30, "*": 450})]
    sizes = {"conv1": 100, "conv2": 60, "fc": 900}
    found = gather([experiment(tmp_path / "e", rows, {"layer_sizes": sizes})]).budgets
    assert found is not None
    assert dict(zip(found.layers, found.values, strict=True)) == {"conv1": [0.5], "conv*": [0.5], "*": [0.5]}


def test_seeds_that_agree_are_not_one_seed(tmp_path: Path) -> None:
    facts = gather([experiment(tmp_path / "e", [trial(0, trial_id=f"t{seed}", seed=seed) for seed in range(3)])])
    assert {pick.how for pick in facts.picks} == {"ratio 10, all 3 seeds agree"}
    assert [point.seeds for series in facts.ratios for point in series.points] == [3]
    assert not any("one seed" in note for note in facts.notes)
    assert ">all 3 seeds agree</td>" in render(facts)


@pytest.mark.parametrize(
    ("accuracies", "said"),
    [
        ([0.8], "1 proposal is too few to tell whether more would help"),
        ([0.8, 0.8], "2 proposals are too few to tell whether more would help"),
        ([0.05] * 20, "No model beats the reference point (accuracy 10 % and 4 kB) in both"),
        ([0.8] * 20, "more trials would add little"),
    ],
)
def test_progress_is_judged_where_there_is_some(tmp_path: Path, accuracies: list[float], said: str) -> None:
    rows = [trial(n, accuracy=value, accuracy_val=value) for n, value in enumerate(accuracies)]
    facts = gather([experiment(tmp_path / "e", rows, {"reference": {"accuracy": 0.1, "memory": 4000}})])
    assert said in plain(facts.history_note)


def test_what_a_picture_cannot_hold_is_sampled_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_demo(tmp_path / "e", 80, repeats=1, epochs=2)
    whole = gather([folder])
    monkeypatch.setattr(proposals_module, "MOST_POINTS", 40)
    facts = gather([folder])
    assert len(facts.points) >= 40
    assert len(facts.points) < len(whole.points)
    for measure, front in whole.fronts.items():
        kept = facts.fronts[measure].overall
        assert [facts.points[i].trials for i in kept] == [whole.points[i].trials for i in front.overall]
    assert any(f"of {len(whole.points)} proposals" in note for note in facts.notes)
    assert facts.history == whole.history
    assert facts.headline == whole.headline
    assert np.isfinite(facts.focus).all()
