"""One build at a time, however the other one ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from data_pipeline import lock
from data_pipeline.lock import LOCK, VOID_S, LockedError, output_lock
from data_pipeline.storage import Storage

HOLDER = """
import sys
from data_pipeline.lock import output_lock
from data_pipeline.storage import Storage
with output_lock(Storage(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(out: Storage, project: Path) -> Iterator[subprocess.Popen]:
    """Another process that holds the lock until its standard input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, out.uri], cwd=project, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stdin
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def names_holder(error: LockedError, process: subprocess.Popen) -> bool:
    return f"process {process.pid} on {socket.gethostname()}" in str(error)


def test_a_second_build_is_refused_at_once(tmp_path: Path, project: Path) -> None:
    out = Storage(tmp_path / "not there yet")
    with holder(out, project) as process:
        began = time.monotonic()
        with pytest.raises(LockedError) as refusal, output_lock(out):
            pass
        assert time.monotonic() - began < 1
        assert names_holder(refusal.value, process)
        assert isinstance(refusal.value, ValueError) and out.uri in str(refusal.value)
        with pytest.raises(LockedError), output_lock(out):
            pass
    with output_lock(out):
        assert out.read_json(LOCK)["pid"] == os.getpid()


def test_the_lock_ends_with_its_holder_however_it_ends(tmp_path: Path, project: Path) -> None:
    out = Storage(tmp_path)
    with holder(out, project) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with output_lock(out):
            pass
    with pytest.raises(RuntimeError, match="the build failed"), output_lock(out):
        raise RuntimeError("the build failed")
    with output_lock(out):
        pass


def test_the_lock_of_this_process_holds_within_it(tmp_path: Path) -> None:
    with output_lock(Storage(tmp_path)), pytest.raises(LockedError), output_lock(Storage(tmp_path)):
        pass


def test_folders_have_locks_of_their_own(tmp_path: Path) -> None:
    with output_lock(Storage(tmp_path / "a")), output_lock(Storage(tmp_path / "b")):
        assert json.loads((tmp_path / "a" / LOCK).read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}"])
def test_an_unreadable_lock_that_is_held_still_refuses(tmp_path: Path, project: Path, text: str) -> None:
    out = Storage(tmp_path)
    with holder(out, project):
        (tmp_path / LOCK).write_text(text)
        with pytest.raises(LockedError, match="another process"), output_lock(out):
            pass


@pytest.fixture
def remote(s3: Callable[[], str]) -> Storage:
    return Storage(f"{s3()}/faces")


def put(remote: Storage, age: float, **owner: object) -> None:
    there = {"host": "elsewhere", "pid": 1, "since": "2026-01-01T00:00:00+00:00", "token": "x", **owner}
    remote.write_json(LOCK, {**there, "renewed": time.time() - age})


def test_a_live_lock_in_an_object_store_refuses(remote: Storage, project: Path) -> None:
    with holder(remote, project) as process:
        with pytest.raises(LockedError) as refusal, output_lock(remote):
            pass
        assert names_holder(refusal.value, process)
        assert remote.read_json(LOCK)["pid"] == process.pid, "the refused one touches nothing"


def test_a_lock_of_another_machine_refuses_until_it_is_stale(remote: Storage) -> None:
    put(remote, age=VOID_S - 20)
    with pytest.raises(LockedError, match=r"process 1 on elsewhere.*ends by itself in (19|20) s"), output_lock(remote):
        pass
    put(remote, age=VOID_S + 1)
    with output_lock(remote):
        assert remote.read_json(LOCK)["pid"] == os.getpid()
    assert not remote.exists(LOCK)


def test_the_lock_of_a_dead_process_of_this_machine_is_void_at_once(remote: Storage, project: Path) -> None:
    with holder(remote, project) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert remote.exists(LOCK)
        with output_lock(remote):
            pass


def test_a_failing_build_gives_its_lock_back(remote: Storage) -> None:
    with pytest.raises(RuntimeError, match="failed"), output_lock(remote):
        raise RuntimeError("failed")
    assert not remote.exists(LOCK)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"renewed": "x"}'])
def test_an_unreadable_lock_object_refuses_in_plain_words(remote: Storage, content: bytes) -> None:
    remote.write_bytes(LOCK, content)
    with pytest.raises(LockedError, match="another process"), output_lock(remote):
        pass


def test_of_many_who_come_at_once_one_gets_in(remote: Storage) -> None:
    start, held, results = threading.Barrier(3), threading.Event(), []

    def come() -> None:
        start.wait()
        try:
            with output_lock(Storage(remote.uri)):
                results.append("in")
                held.wait(10)
        except LockedError:
            results.append("refused")
            if results.count("refused") == 2:
                held.set()

    threads = [threading.Thread(target=come) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["in", "refused", "refused"]


def test_a_long_build_keeps_its_lock(remote: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "RENEW_S", 0.05)
    with output_lock(remote):
        first = remote.read_json(LOCK)
        deadline = time.monotonic() + 10
        while remote.read_json(LOCK)["renewed"] == first["renewed"]:
            assert time.monotonic() < deadline, "never renewed"
        assert remote.read_json(LOCK)["token"] == first["token"]
    assert not remote.exists(LOCK)


def test_who_lost_the_lock_does_not_take_it_from_the_next(remote: Storage) -> None:
    """A machine that slept for longer than VOID_S wakes up when somebody else has begun."""
    with output_lock(remote):
        put(remote, age=0, token="of the next")
    assert remote.read_json(LOCK)["token"] == "of the next"
