import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from baselines import save_sparse
from search.driver import pack as pack_module
from search.driver.exchange import from_json, model_path
from search.driver.pack import LaneLostError, PackHost
from search.driver.runner import TrialRunner
from search.methods import Compressed, Workbench
from search.methods.plain import dense
from search.results.folder import Folder
from search.training import packed


class Curious(Compressed):
    """Looks at each epoch, and fails at the second."""

    def after_epoch(self, epoch):
        if epoch == 2:
            raise ValueError("no such layer")


def curious(bench: Workbench) -> Compressed:
    plain = dense(bench)
    sizes = {name: getattr(plain, name) for name in ("virtual_size", "stored_parameters", "stored_bytes")}
    return Curious(plain.model, **sizes, save=save_sparse)


@pytest.fixture
def configs(make_config):
    lanes = [("rps", 4.0, 0.1), ("rand", 2.0, 0.05), ("snip", 8.0, 0.2), ("mag", 4.0, 0.1), ("dense", 1.0, 0.02)]
    return [make_config(method, ratio=ratio, lr=lr, seed=n) for n, (method, ratio, lr) in enumerate(lanes)]


@pytest.fixture
def fused(monkeypatch):
    """Make packs fuse whatever is faster here; return the sizes of what was fused."""
    sizes = []
    whole = packed.Fusion.train_epoch

    def train_epoch(fusion):
        sizes.append(len(fusion.trainers))
        return whole(fusion)

    monkeypatch.setattr(packed.Fusion, "train_epoch", train_epoch)
    monkeypatch.setattr(pack_module, "Pack", lambda width: packed.Pack(width, fuse=True))
    return sizes


def own(host: PackHost, lane: str, configs, *, epochs: int = 100) -> list[list[dict]]:
    """Run trials one after the other on a lane, as its owner does; return the results of each."""
    assert host.join(lane)
    ran = []
    for config in configs:
        host.begin(lane, config.model_dump_json())
        results = []
        while not (results and results[-1].get("done")) and len(results) < epochs:
            results.append(host.step(lane))
        ran.append(results)
    host.leave(lane)
    return ran


def row_of(results: list[dict]) -> dict:
    return from_json(results[-1]["trial_row"])


def test_every_trial_reports_and_ends_as_it_would_alone(configs, settings, tiny_data, fused, tmp_path):
    host = PackHost(tiny_data, settings, 3)
    with ThreadPoolExecutor(3) as owners:
        shares = [configs[:2], configs[2:4], configs[4:]]
        ran = owners.map(lambda n: own(host, f"lane {n}", shares[n]), range(3))
    found = [results for lane in ran for results in lane]
    assert max(fused) == 3
    for config, results in zip(configs, found, strict=True):
        elsewhere = replace(settings, folder=Folder(tmp_path / "alone"))
        alone = TrialRunner(config.model_dump_json(), tiny_data, elsewhere)
        expected = []
        while not (expected and expected[-1].get("done")):
            expected.append(alone.step())
        assert [r["epoch"] for r in results] == [r["epoch"] for r in expected] == [1, 2, 3, 4]
        got, wanted = row_of(results), row_of(expected)
        assert got["status"] == "finished"
        assert got["trial_id"] == config.trial_id
        assert got["loss"] == pytest.approx(wanted["loss"], rel=1e-3)
        assert got["accuracy"] == pytest.approx(wanted["accuracy"], abs=0.04)
        assert (tmp_path / model_path(config.trial_id)).exists()


def test_a_trial_that_fails_leaves_the_others_alone(configs, make_config, settings, tiny_data, fused):
    host = PackHost(tiny_data, settings, 3)
    bad = [make_config("dense", ratio=1.0, lr=1e30), make_config("rps", args={"maping": "roast"})]
    with ThreadPoolExecutor(3) as owners:
        ran = list(owners.map(lambda n: own(host, f"lane {n}", [[configs[0]], bad[:1], bad[1:]][n]), range(3)))
    assert row_of(ran[0][0])["status"] == "finished"
    diverged, refused = row_of(ran[1][0]), row_of(ran[2][0])
    assert diverged["status"] == refused["status"] == "failed"
    assert "in epoch 1 at lr" in diverged["error"]
    assert "unknown argument 'maping'" in refused["error"]


def test_a_method_that_fails_after_an_epoch_leaves_the_others_alone(configs, make_config, settings, tiny_data, fused):
    host = PackHost(tiny_data, settings, 2)
    bad = make_config("tests.search.driver.test_pack:curious", ratio=1.0)
    with ThreadPoolExecutor(2) as owners:
        good, ended = owners.map(lambda n: own(host, f"lane {n}", [[configs[0]], [bad]][n]), range(2))
    assert row_of(good[0])["status"] == "finished"
    failed = row_of(ended[0])
    assert failed["status"] == "failed"
    assert failed["error"] == "ValueError: no such layer"


def leaves(bench: Workbench) -> Compressed:
    sys.exit("enough")


class Leaver(Compressed):
    """Ends the process after an epoch."""

    def after_epoch(self, epoch):
        sys.exit("enough")


def leaves_later(bench: Workbench) -> Compressed:
    plain = dense(bench)
    sizes = {name: getattr(plain, name) for name in ("virtual_size", "stored_parameters", "stored_bytes")}
    return Leaver(plain.model, **sizes, save=save_sparse)


def test_a_function_that_would_end_the_process_lets_nobody_wait_for_ever(
    configs, make_config, settings, tiny_data, caplog
):
    host = PackHost(tiny_data, settings, 1)
    with ThreadPoolExecutor(1) as owner:

        def run(config):
            return owner.submit(own, host, "lane", [config]).result(30)

        refused = row_of(run(make_config("tests.search.driver.test_pack:leaves", ratio=1.0))[0])
        assert refused["status"] == "failed"
        assert refused["error"] == "a function that the spec names called sys.exit('enough'); let it raise an exception"
        with pytest.raises(RuntimeError, match=r"called sys\.exit\('enough'\)"):
            run(make_config("tests.search.driver.test_pack:leaves_later", ratio=1.0))
        assert row_of(run(configs[0])[0])["status"] == "finished"
    assert "the pack failed" in caplog.text


def test_a_result_that_cannot_be_told_is_missed_by_its_owner_alone(
    configs, settings, tiny_data, fused, monkeypatch, caplog
):
    after = TrialRunner.after

    def untold(runner, outcome):
        if runner.ready and runner.ready.config.method == "rand":
            raise RuntimeError("no words")
        return after(runner, outcome)

    monkeypatch.setattr(TrialRunner, "after", untold)
    host = PackHost(tiny_data, settings, 2)
    with ThreadPoolExecutor(2) as owners:
        lost = owners.submit(own, host, "lost", [configs[1]])
        assert row_of(own(host, "told", [configs[0]])[0])["status"] == "finished"
        with pytest.raises(RuntimeError, match="no words"):
            lost.result(30)
    assert "lane lost failed" in caplog.text


def test_a_trial_that_is_stopped_makes_room_for_another(configs, settings, tiny_data, fused):
    host = PackHost(tiny_data, settings, 2)
    with ThreadPoolExecutor(2) as owners:
        whole = owners.submit(own, host, "a", configs[:2])
        assert len(own(host, "b", [configs[2]], epochs=1)[0]) == 1
        assert host.join("c")
        host.leave("c")
        assert [row_of(results)["status"] for results in whole.result()] == ["finished", "finished"]


def test_a_trial_goes_on_from_the_checkpoint_that_it_wrote_in_a_pack(configs, settings, tiny_data, fused):
    first = PackHost(tiny_data, settings, 2)
    with ThreadPoolExecutor(2) as owners:
        list(owners.map(lambda n: own(first, str(n), [configs[n]], epochs=2), range(2)))
    alone = TrialRunner(configs[0].model_dump_json(), tiny_data, settings)
    result = alone.step()
    assert result["epoch"] == 3
    assert len(result["epoch_rows"]) == 3


def test_a_host_has_as_many_lanes_as_it_is_wide(settings, tiny_data):
    host = PackHost(tiny_data, settings, 2)
    assert host.join("a")
    assert host.join("b")
    assert host.join("a")
    assert not host.join("c")
    host.leave("b")
    assert host.join("c")


def test_the_lane_of_a_dead_owner_lapses(configs, settings, tiny_data, monkeypatch):
    monkeypatch.setattr(pack_module, "LAPSE_S", 0.2)
    host = PackHost(tiny_data, settings, 1)
    assert host.join("dead")
    host.begin("dead", configs[0].model_dump_json())
    host.step("dead")
    assert not host.join("next")
    time.sleep(0.3)
    assert host.join("next")
    with pytest.raises(LaneLostError, match="given away"):
        host.step("dead")


def test_a_lane_without_a_trial_has_no_epoch(settings, tiny_data):
    host = PackHost(tiny_data, settings, 1)
    host.join("a")
    with pytest.raises(LaneLostError, match="has no trial"):
        host.step("a")


def test_an_owner_that_does_not_ask_holds_nobody_up_for_long(configs, settings, tiny_data, fused):
    host = PackHost(tiny_data, settings, 2)
    host.join("silent")
    host.begin("silent", configs[1].model_dump_json())
    began = time.monotonic()
    done = threading.Event()
    threading.Thread(target=lambda: (own(host, "a", [configs[0]]), done.set()), daemon=True).start()
    assert done.wait(30)
    assert time.monotonic() - began < 30


def test_what_breaks_the_pack_reaches_every_owner(configs, settings, tiny_data, monkeypatch):
    def broken(trials, pack):
        raise RuntimeError("no such thing")

    monkeypatch.setattr(pack_module, "train_together", broken)
    host = PackHost(tiny_data, settings, 2)
    for lane, config in zip("ab", configs, strict=False):
        host.join(lane)
        host.begin(lane, config.model_dump_json())
    with ThreadPoolExecutor(2) as owners:
        asked = [owners.submit(host.step, lane) for lane in "ab"]
        for future in asked:
            with pytest.raises(RuntimeError, match="no such thing"):
                future.result(30)


def test_what_early_stopping_judges_is_reported_at_once(configs, settings, tiny_data, fused):
    host = PackHost(tiny_data, replace(settings, report_every_s=60.0, report_at=frozenset({1, 3})), 2)
    with ThreadPoolExecutor(2) as owners:
        ran = list(owners.map(lambda n: own(host, str(n), [configs[n]]), range(2)))
    for results in (lane[0] for lane in ran):
        # Lanes that began one after the other are told more often: each at the other's epochs, too.
        assert {1, 3, 4} <= {json.loads(result["epoch_rows"][-1])["epoch"] for result in results}


def test_a_trial_that_goes_on_is_judged_before_it_trains_on(configs, settings, tiny_data, fused):
    settings = replace(settings, report_at=frozenset({1}))
    TrialRunner(configs[0].model_dump_json(), tiny_data, settings).step()
    host = PackHost(tiny_data, settings, 2)
    with ThreadPoolExecutor(2) as owners:
        ran = list(owners.map(lambda n: own(host, str(n), [configs[n]]), range(2)))
    assert ran[0][0][0]["epoch"] == 1
    for (results,) in ran:
        assert row_of(results)["status"] == "finished"
        epochs = [json.loads(row)["epoch"] for result in results for row in result["epoch_rows"]]
        assert epochs == [1, 2, 3, 4]


def test_short_epochs_are_reported_together(configs, settings, tiny_data, fused):
    host = PackHost(tiny_data, replace(settings, report_every_s=60.0), 2)
    with ThreadPoolExecutor(2) as owners:
        ran = list(owners.map(lambda n: own(host, str(n), [configs[n]]), range(2)))
    for results in (lane[0] for lane in ran):
        assert len(results) == 1
        assert len(results[0]["epoch_rows"]) == 4
        assert row_of(results)["status"] == "finished"
