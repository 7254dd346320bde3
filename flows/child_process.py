"""A job as a child process of this one, with a Ray of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue

from flows.job_logs import last_lines, text_of
from flows.outcome import JobFailed

GRACE = 15.0  # seconds a child process has to end by itself; Prefect gives a cancelled run 30


def run_child(
    module: str,
    config_file: Path,
    overrides: Sequence[str],
    on_log: Callable[[str], None],
    on_poll: Callable[[], None],
    poll_seconds: float,
    root: Path,
) -> None:
    """Run the job in the working directory of this process; see `flows.submission.run_job`. It never outlives the call.

    Raises:
        JobFailed: with the exit code and the last lines.
    """
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    child = subprocess.Popen(
        # -P: the packages come from `root`, whatever lies in the working directory
        [sys.executable, "-P", *arguments(module, str(config_file), overrides)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # a group of its own, so that it can be ended together with the Ray that it started
    )
    try:
        printed = _relay(child, on_log, on_poll, poll_seconds)
    finally:
        _end_group(child)
    if child.returncode != 0:
        raise JobFailed(
            f"{module} failed with exit code {child.returncode}; its last lines:\n{last_lines(printed)}",
            exit_code=child.returncode,
        )


def _relay(
    child: subprocess.Popen[str], on_log: Callable[[str], None], on_poll: Callable[[], None], poll_seconds: float
) -> str:
    """Hand on what the child prints until it ends, and return the end of it."""
    lines: Queue[str] = Queue()
    stdout = child.stdout
    assert stdout is not None

    def read() -> None:
        for line in stdout:
            lines.put(line)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    kept: deque[str] = deque(maxlen=100)
    polled = time.monotonic()
    while True:
        ended = child.poll() is not None
        if ended:
            reader.join(timeout=1)  # a grandchild may hold the pipe open; what it prints later is nobody's
        with suppress(Empty):
            while True:
                line = text_of(lines.get(timeout=0 if ended else 0.2))
                on_log(line)
                kept.append(line)
                if time.monotonic() - polled >= poll_seconds:
                    break
        if ended and lines.empty():
            on_poll()
            return "\n".join(kept)
        if time.monotonic() - polled >= poll_seconds:
            polled = time.monotonic()
            on_poll()


def _end_group(child: subprocess.Popen[str]) -> None:
    """End the child, then whatever is left of the Ray that it started.

    The child is asked alone and first: a job takes its Ray down by itself, but one whose Ray goes before it aborts.
    """
    if child.poll() is None:
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout=GRACE)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def arguments(module: str, config_file: str, overrides: Sequence[str]) -> list[str]:
    """What stands behind `python` in the command line of a job."""
    return ["-m", module, "--config", config_file, *(part for item in overrides for part in ("--set", item))]
