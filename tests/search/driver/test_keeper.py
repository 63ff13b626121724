import pytest

from search.driver.keeper import ModelKeeper
from search.driver.runner import model_path
from search.results.folder import Folder


@pytest.fixture
def folder(tmp_path):
    return Folder(str(tmp_path))


def row(trial_id, accuracy, size, method="rps", status="finished"):
    return {
        "trial_id": trial_id,
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
