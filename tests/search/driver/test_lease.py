import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from search.driver import lease as module
from search.driver.lease import PATH, Lease, lives_here, read_lease
from search.errors import UserError
from search.results.folder import Folder


@pytest.fixture
def folder(tmp_path):
    return Folder(str(tmp_path))


def test_a_second_driver_is_refused_with_host_process_and_age(folder):
    with Lease(folder, beat_s=0.05):
        told = rf"host {socket.gethostname()}, process {os.getpid()}, since \d{{4}}-"
        with pytest.raises(UserError, match=told), Lease(folder, beat_s=0.05):
            pass


def test_a_lease_ends_with_its_driver(folder):
    with Lease(folder, beat_s=0.05):
        assert read_lease(folder) is not None
    assert not folder.exists(PATH)
    with Lease(folder, beat_s=0.05):
        pass


def test_a_folder_that_was_made_for_nothing_goes_with_the_lease(tmp_path):
    here, held = tmp_path / "here", tmp_path / "held"
    here.mkdir()
    for path, file in [(here, None), (held, "spec.yaml"), (tmp_path / "new", None)]:
        with Lease(Folder(path), beat_s=0.05):
            if file:
                (path / file).write_text("")
    assert here.is_dir()
    assert (held / "spec.yaml").exists()
    assert not (tmp_path / "new").exists()


def test_a_driver_that_is_interrupted_while_it_takes_its_lease_leaves_none(tmp_path, monkeypatch):
    def interrupted(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt), Lease(Folder(tmp_path / "new")):
        pass
    assert not (tmp_path / "new").exists()


def test_a_driver_that_is_interrupted_while_it_gives_its_lease_back_leaves_none(folder, monkeypatch):
    """Its process may live on: a notebook's does, and would be refused its own folder."""
    write_whole, writing, go = folder.write_whole, threading.Event(), threading.Event()

    def slow(path, data):
        writing.set()
        go.wait(10)
        write_whole(path, data)

    def interrupted():
        raise KeyboardInterrupt

    with ExitStack() as held:
        lease = held.enter_context(Lease(folder, beat_s=0.02))
        join = lease._thread.join
        monkeypatch.setattr(lease._thread, "join", interrupted)
        monkeypatch.setattr(folder, "write_whole", slow)
        assert writing.wait(10)
        with pytest.raises(KeyboardInterrupt):
            held.close()
    go.set()
    join(10)
    assert not folder.exists(PATH)


def test_of_two_drivers_that_start_at_once_the_last_one_goes_on(folder, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: folder.write_whole(PATH, elsewhere(1)))
    with pytest.raises(UserError, match="at the same moment"), Lease(folder):
        pass
    assert read_lease(folder)["host"] == "elsewhere"


def test_a_driver_whose_folder_was_taken_over_between_two_beats_leaves_the_others_lease(folder):
    with Lease(folder):
        folder.write_whole(PATH, elsewhere(1))
    assert read_lease(folder)["host"] == "elsewhere"


def holding(folder):
    """Return another process, which holds the folder."""
    code = (
        "import sys,time; from search.driver.lease import Lease; from search.results.folder import Folder\n"
        "with Lease(Folder(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, folder.uri], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_the_lease_of_a_killed_process_is_taken_over_at_once(folder):
    process = holding(folder)
    assert lives_here(read_lease(folder))
    process.kill()
    process.wait()
    assert lives_here(read_lease(folder)) is False
    began = time.monotonic()
    with Lease(folder):
        assert time.monotonic() - began < 2


def test_a_process_that_ended_holds_nothing_though_nobody_took_note_of_its_end(folder):
    process = holding(folder)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert lives_here(read_lease(folder)) is False
    process.wait()


def test_a_later_process_with_the_number_of_a_dead_one_holds_nothing(folder):
    process = holding(folder)
    process.kill()
    process.wait()
    assert lives_here({**read_lease(folder), "pid": os.getpid()}) is False


def test_where_no_file_tells_of_processes_the_system_is_asked(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "Path", lambda path: tmp_path / path.strip("/"))
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    with Lease(folder, beat_s=0.05):
        lease = read_lease(folder)
    assert lives_here(lease)
    assert lives_here({**lease, "pid": dead.pid}) is False


def elsewhere(beat: int, token: str = "t") -> bytes:
    content = {"token": token, "host": "elsewhere", "pid": 1, "process_started": "1", "since": "s", "beat": beat}
    return json.dumps(content).encode()


def test_a_driver_on_another_machine_lives_while_its_heart_beats(folder, monkeypatch):
    folder.write_whole(PATH, elsewhere(1))
    monkeypatch.setattr(time, "sleep", lambda seconds: folder.write_whole(PATH, elsewhere(2)))
    with pytest.raises(UserError, match="host elsewhere, process 1"), Lease(folder, beat_s=0.05):
        pass


def test_a_driver_on_another_machine_whose_heart_stands_still_is_dead(folder):
    folder.write_whole(PATH, elsewhere(1))
    with Lease(folder, beat_s=0.02):
        assert read_lease(folder)["host"] == socket.gethostname()


def test_a_driver_on_another_machine_is_watched_for_longer_than_a_beat_takes(folder, monkeypatch):
    slept = []
    folder.write_whole(PATH, elsewhere(1))
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=slept.append))
    with Lease(folder, beat_s=4.0):
        assert slept[0] >= 2 * 4.0


def test_a_driver_on_another_machine_that_ends_meanwhile_holds_nothing(folder, monkeypatch):
    folder.write_whole(PATH, elsewhere(1))
    ends = iter([lambda: folder.delete(PATH)])
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=lambda seconds: next(ends, lambda: None)()))
    with Lease(folder):
        assert read_lease(folder)["host"] == socket.gethostname()


def test_a_driver_on_another_machine_that_takes_a_dead_ones_folder_meanwhile_is_left_it(folder, monkeypatch):
    folder.write_whole(PATH, elsewhere(0))
    monkeypatch.setattr(time, "sleep", lambda seconds: folder.write_whole(PATH, elsewhere(0, token="another")))
    with pytest.raises(UserError, match="another driver works here"), Lease(folder):
        pass


def test_a_lease_that_somebody_deleted_comes_back_with_the_next_beat(folder):
    with Lease(folder, beat_s=0.02) as lease:
        token = read_lease(folder)["token"]
        limit = time.monotonic() + 10
        for _ in range(3):  # The first time a beat that was being written may bring it back.
            folder.delete(PATH)
            while not folder.exists(PATH):
                assert time.monotonic() < limit
                time.sleep(0.01)
        assert read_lease(folder)["token"] == token
        assert not lease.lost.is_set()


def test_the_lease_of_an_earlier_version_is_judged_by_its_process(folder):
    with Lease(folder, beat_s=0.05):
        lease = read_lease(folder)
    del lease["machine"]
    assert lives_here(lease)


def test_a_storage_that_is_away_for_some_beats_ends_nothing(folder, monkeypatch):
    write_whole, away = folder.write_whole, []

    def fails_twice(path, data):
        if len(away) < 2:
            away.append(path)
            raise OSError("away for a moment")
        write_whole(path, data)

    with Lease(folder, beat_s=0.02) as lease:
        monkeypatch.setattr(folder, "write_whole", fails_twice)
        limit = time.monotonic() + 10
        while len(away) < 2 and time.monotonic() < limit:
            time.sleep(0.01)
        before = read_lease(folder)["beat"]
        while read_lease(folder)["beat"] <= before and time.monotonic() < limit:
            time.sleep(0.01)
        assert read_lease(folder)["beat"] > before
        assert not lease.lost.is_set()


def test_a_storage_that_is_away_at_the_end_does_not_hide_why_it_ends(folder, monkeypatch):
    def interrupted(seconds):
        raise KeyboardInterrupt

    def away(path):
        raise OSError("away")

    monkeypatch.setattr(folder, "delete", away)
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=interrupted))
    with pytest.raises(KeyboardInterrupt), Lease(folder):
        pass


def test_a_driver_in_another_container_of_the_same_name_is_judged_by_its_heart(folder, monkeypatch):
    def twin(beat):
        content = json.loads(elsewhere(beat)) | {"host": socket.gethostname(), "machine": "another boot"}
        return json.dumps(content).encode()

    folder.write_whole(PATH, twin(1))
    assert lives_here(read_lease(folder)) is None
    monkeypatch.setattr(time, "sleep", lambda seconds: folder.write_whole(PATH, twin(2)))
    with pytest.raises(UserError, match="another driver works here"), Lease(folder, beat_s=0.05):
        pass


def test_the_heart_beats_and_a_loss_is_noticed(folder):
    with Lease(folder, beat_s=0.02) as lease:
        before = read_lease(folder)["beat"]
        time.sleep(0.3)
        assert read_lease(folder)["beat"] > before
        for _ in range(100):  # A beat may fall between: the other driver's own beats come again as well.
            folder.write_whole(PATH, elsewhere(1))
            if lease.lost.wait(0.05):
                break
        assert lease.lost.is_set()
    assert read_lease(folder)["host"] == "elsewhere"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"host": "x"}'])
def test_a_damaged_lease_holds_nobody(folder, content):
    folder.write_whole(PATH, content)
    with Lease(folder, beat_s=0.05):
        pass
