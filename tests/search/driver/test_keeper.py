import pytest

from search.driver.exchange import model_path
from search.driver.keeper import ModelKeeper
from search.results.folder import Folder


@pytest.fixture
def folder(tmp_path):
    return Folder(str(tmp_path))


def row(trial_id, accuracy, size, method="rps", status="finished", number=None, repeat=0):
    return {
        "trial_id": trial_id,
        "number": trial_id if number is None else number,
        "repeat": repeat,
        "finished_at": 0,
        "accuracy_val": accuracy,
        "stored_bytes": size,
        "method": method,
        "status": status,
    }


def kept(folder):
    return {entry.path.rpartition("/")[2].removesuffix(".safetensors") for entry in folder.list("checkpoints/models")}


def end(folder, keeper, *rows):
    for one in rows:
        folder.write_whole(model_path(one["trial_id"]), b"x")
        keeper.take(one)


def test_only_models_on_a_methods_frontier_are_kept(folder):
    keeper = ModelKeeper(folder, "stored_bytes")
    end(folder, keeper, row("a", 0.5, 100), row("b", 0.6, 200), row("worse", 0.5, 300), row("equal", 0.6, 200))
    assert kept(folder) == {"a", "b"}
    end(folder, keeper, row("better", 0.7, 100))
    assert kept(folder) == {"better"}
    end(folder, keeper, row("other", 0.1, 900, method="rand"), row("failed", None, 1, status="failed"))
    assert kept(folder) == {"better", "other"}


def test_a_budget_drops_what_no_frontier_needs_first_and_then_the_largest(folder):
    keeper = ModelKeeper(folder, "stored_bytes", disk_budget=600)
    end(folder, keeper, row("a", 0.5, 100), row("b", 0.6, 300), row("beaten", 0.4, 150, method="rand"))
    assert kept(folder) == {"a", "b", "beaten"}
    end(folder, keeper, row("c", 0.55, 200))
    assert kept(folder) == {"a", "b", "c"}
    end(folder, keeper, row("d", 0.3, 50))
    assert kept(folder) == {"a", "c", "d"}


def test_a_resumed_search_deletes_what_a_crash_left(folder):
    rows = [row("a", 0.5, 100), row("b", 0.4, 200)]
    for one in rows:
        folder.write_whole(model_path(one["trial_id"]), b"x")
    folder.write_whole(model_path("orphan"), b"x")
    ModelKeeper(folder, "stored_bytes").recall(rows)
    assert kept(folder) == {"a"}


def test_repeats_are_judged_together_and_one_model_stands_for_them(folder):
    keeper = ModelKeeper(folder, "stored_bytes", repeats=2)
    end(folder, keeper, row("a0", 0.9, 100, number=0), row("b0", 0.7, 100, number=1))
    assert kept(folder) == {"a0", "b0"}, "nothing is judged before its last repeat"
    end(folder, keeper, row("a1", 0.3, 100, number=0, repeat=1), row("b1", 0.7, 100, number=1, repeat=1))
    assert kept(folder) == {"b0"}, "0.6 on average loses to 0.7"
    end(folder, keeper, row("b2", 0.99, 100, number=1, repeat=2))
    assert kept(folder) == {"b0"}, "a further seed has no model of its own"
    end(folder, keeper, row("c0", None, 90, number=2, status="failed"), row("c1", 0.8, 90, number=2, repeat=1))
    assert kept(folder) == {"c1"}


def test_a_proposal_that_is_not_complete_keeps_its_models_over_a_restart(folder):
    rows = [row("a0", 0.9, 100, number=0), row("b0", 0.1, 900, number=1), row("b1", 0.2, 900, number=1, repeat=1)]
    for one in rows:
        folder.write_whole(model_path(one["trial_id"]), b"x")
    ModelKeeper(folder, "stored_bytes", repeats=2).recall(rows)
    assert kept(folder) == {"a0", "b0"}


def test_models_that_wait_for_further_repeats_count_and_only_the_first_is_kept(folder):
    keeper = ModelKeeper(folder, "stored_bytes", repeats=3, disk_budget=600)
    end(folder, keeper, row("a0", 0.9, 300, number=0), row("a1", 0.8, 300, number=0, repeat=1))
    assert kept(folder) == {"a0"}
    end(folder, keeper, row("b0", 0.9, 200, number=1), row("c0", 0.9, 250, number=2))
    assert kept(folder) == {"b0", "c0"}, "the largest went"
    end(folder, keeper, row("a2", 0.9, 300, number=0, repeat=2))
    assert kept(folder) == {"b0", "c0"}, "no model stands for the proposal"
    end(folder, keeper, row("b1", 0.9, 200, number=1, repeat=1), row("b2", 0.9, 200, number=1, repeat=2))
    assert kept(folder) == {"b0", "c0"}


def test_a_resumed_search_keeps_to_a_smaller_budget(folder):
    rows = [row("a", 0.5, 100), row("b", 0.6, 300), row("c", 0.7, 500)]
    for one in rows:
        folder.write_whole(model_path(one["trial_id"]), b"x")
    keeper = ModelKeeper(folder, "stored_bytes", disk_budget=450)
    keeper.recall(rows)
    assert kept(folder) == {"a", "b"}
    again = ModelKeeper(folder, "stored_bytes", disk_budget=450)
    again.recall(rows)  # what went for the budget's sake does not count
    end(folder, again, row("d", 0.1, 40))
    assert kept(folder) == {"a", "b", "d"}


@pytest.mark.parametrize("budget", [None, 60])
def test_deleting_that_failed_is_done_when_the_trial_is_taken_again_and_nothing_else_is(folder, monkeypatch, budget):
    keeper = ModelKeeper(folder, "stored_bytes", disk_budget=budget)
    end(folder, keeper, row("a", 0.5, 40))
    delete, stuck = folder.delete, [model_path("a")]

    def fails_once(path):
        if path in stuck:
            stuck.remove(path)
            raise OSError("it is in use")
        delete(path)

    monkeypatch.setattr(folder, "delete", fails_once)
    # Better in both without a budget; with one there is no room for both.
    better = row("b", 0.9, 30) if budget is None else row("b", 0.4, 30)
    with pytest.raises(OSError, match="in use"):
        end(folder, keeper, better)
    assert kept(folder) == {"a", "b"}
    keeper.take(better)
    assert kept(folder) == {"b"}
    end(folder, keeper, row("c", 0.1, 900))
    assert kept(folder) == {"b"}


def test_a_resumed_search_keeps_the_same_model_whatever_the_clocks_of_its_machines_say(folder):
    rows = [row("b", 0.5, 100, number=0, repeat=1) | {"finished_at": 9}, row("a", 0.6, 100, number=0)]
    end(folder, ModelKeeper(folder, "stored_bytes", repeats=2), *rows)
    assert kept(folder) == {"b"}
    ModelKeeper(folder, "stored_bytes", repeats=2).recall(rows)
    assert kept(folder) == {"b"}


def test_seeds_of_a_proposal_are_judged_by_their_mean_memory(folder):
    keeper = ModelKeeper(folder, "stored_bytes", repeats=2)
    end(folder, keeper, row("a0", 0.5, 100, number=0), row("a1", 0.5, 300, number=0, repeat=1))
    end(folder, keeper, row("b0", 0.5, 150, number=1), row("b1", 0.5, 150, number=1, repeat=1))
    assert kept(folder) == {"b0"}, "150 is less than 200"


def test_the_budget_counts_the_bytes_of_files_whatever_memory_the_frontier_is_over(folder):
    keeper = ModelKeeper(folder, "stored_parameters", disk_budget=500)
    end(folder, keeper, row("a", 0.5, 400) | {"stored_parameters": 10})
    assert kept(folder) == {"a"}
    end(folder, keeper, row("b", 0.6, 300) | {"stored_parameters": 20})
    assert kept(folder) == {"b"}, "700 bytes in 30 parameters"


def test_a_model_that_went_while_its_proposal_waited_beats_no_other_and_occupies_nothing(folder):
    def rows():
        yield row("a0", 0.9, 300, number=0)
        yield row("a1", 0.9, 300, number=0, repeat=1)

    keeper = ModelKeeper(folder, "stored_bytes", repeats=2, disk_budget=450)
    first, second = rows()
    keeper.recall([first])  # Its model is not there.
    end(folder, keeper, row("b0", 0.8, 400, number=1), row("b1", 0.8, 400, number=1, repeat=1))
    assert kept(folder) == {"b0"}
    end(folder, keeper, second)
    assert kept(folder) == {"b0"}, "the better proposal has no model that could stand for it"


def test_models_that_are_gone_beat_no_other(folder):
    keeper = ModelKeeper(folder, "stored_bytes")
    keeper.recall([row("gone", 0.9, 100)])
    end(folder, keeper, row("worse", 0.8, 200))
    assert kept(folder) == {"worse"}
