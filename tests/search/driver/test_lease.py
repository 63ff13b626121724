import json
import os
import socket
import subprocess
import sys
import time

import pytest

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


def test_of_two_drivers_that_start_at_once_the_last_one_goes_on(folder, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: folder.write_whole(PATH, elsewhere(1)))
    with pytest.raises(UserError, match="at the same moment"), Lease(folder):
        pass
    assert read_lease(folder)["host"] == "elsewhere"


def test_a_driver_whose_folder_was_taken_over_between_two_beats_leaves_the_others_lease(folder):
    with Lease(folder):
        folder.write_whole(PATH, elsewhere(1))
    assert read_lease(folder)["host"] == "elsewhere"


def test_the_lease_of_a_killed_process_is_taken_over_at_once(folder):
    code = (
        "import sys,time; from search.driver.lease import Lease; from search.results.folder import Folder\n"
        "with Lease(Folder(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, folder.uri], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    assert lives_here(read_lease(folder))
    process.kill()
    process.wait()
    assert lives_here(read_lease(folder)) is False
    began = time.monotonic()
    with Lease(folder):
        assert time.monotonic() - began < 2


def elsewhere(beat: int) -> bytes:
    content = {"token": "t", "host": "elsewhere", "pid": 1, "process_started": "1", "since": "s", "beat": beat}
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
