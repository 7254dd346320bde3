"""One job at a time in an output folder: a dataset's build, a training, an evaluation.

On a local folder the operating system holds the lock (flock), so that it ends with the process, however that ends. An
object store has no locks: there an object tells who is at work and is renewed while he is; one that has not been
renewed for a while is void.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

from data_pipeline.storage import Storage

LOCK = ".lock"
RENEW_S = 10.0
VOID_S = 60.0


class LockedError(ValueError):
    """Another job writes into this folder."""


@contextlib.contextmanager
def output_lock(out: Storage) -> Iterator[None]:
    """Hold the folder for the time of a job.

    Raises:
        LockedError: at once, naming who holds it, instead of waiting.
    """
    with _local_lock(out) if out.is_local else _remote_lock(out):
        yield


def _owner() -> dict[str, object]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "token": uuid.uuid4().hex,
    }


@contextlib.contextmanager
def _local_lock(out: Storage) -> Iterator[None]:
    path = out.local_path(LOCK)
    path.parent.mkdir(parents=True, exist_ok=True)
    # "a+" neither truncates what the holder wrote nor fails when the file is new. The file stays: removing it while
    # another process opens it would give two holders two different files.
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise LockedError(_message(out, file.read())) from None
        file.truncate(0)
        file.write(json.dumps(_owner()))
        file.flush()
        yield


@contextlib.contextmanager
def _remote_lock(out: Storage) -> Iterator[None]:
    me = _owner()
    text = _read(out)
    if text is not None:
        _refuse_if_alive(out, text, me)
    _renew(out, me)
    # Of two who came at the same moment the later write stands; after a pause both see whose that is.
    time.sleep(1.0)
    if not _is_mine(out, me):
        raise LockedError(_message(out, _read(out) or b""))
    stop = threading.Event()

    def keep() -> None:
        while not stop.wait(RENEW_S):
            with contextlib.suppress(OSError):  # a hiccup of the store; the next renewal is soon
                if _is_mine(out, me):  # a machine that slept too long does not take the lock back from the next
                    _renew(out, me)

    keeper = threading.Thread(target=keep, daemon=True, name="output-lock")
    keeper.start()
    try:
        yield
    finally:
        stop.set()
        keeper.join()
        if _is_mine(out, me):
            out.delete(LOCK)


def _refuse_if_alive(out: Storage, text: bytes, me: dict[str, object]) -> None:
    try:
        holder = json.loads(text)
        age = time.time() - float(holder["renewed"])
        dead_here = holder["host"] == me["host"] and not _alive(int(holder["pid"]))
    except (ValueError, KeyError, TypeError):
        raise LockedError(_message(out, text) + f" If none runs, delete {out.locate(LOCK)}.") from None
    if age < VOID_S and not dead_here:
        remedy = f" If that job is dead, the lock ends by itself in {VOID_S - age:.0f} s."
        raise LockedError(_message(out, text) + remedy)


def _read(out: Storage) -> bytes | None:
    try:
        return out.read_bytes(LOCK)
    except FileNotFoundError:
        return None


def _is_mine(out: Storage, me: dict[str, object]) -> bool:
    return str(me["token"]).encode() in (_read(out) or b"")


def _renew(out: Storage, me: dict[str, object]) -> None:
    # Whole seconds: a read asks for the size first and for the bytes then, and must not fall between two lengths.
    out.write_json(LOCK, {**me, "renewed": int(time.time())})


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _message(out: Storage, text: str | bytes) -> str:
    try:
        holder = json.loads(text)
        who = f"process {holder['pid']} on {holder['host']}, since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        who = "another process"
    return f"{out.uri} is being written by {who}. Wait for it to end, or choose another folder for the output."
