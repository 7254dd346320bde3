"""A job as a process tree that a test may kill."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


class Job:
    """A job as its own process tree, started as a user starts it."""

    def __init__(self, module: str, config_file: Path, log: Path):
        self.log = log
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, "--config", str(config_file)],
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def tree(self) -> list[int]:
        """The job's process and all below it."""
        return descendants(self.process.pid)

    def kill(self) -> None:
        """kill -9 for every process of the job, the driver first, so that nobody can tidy up."""
        for pid in self.tree():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def wait(self) -> int:
        return self.process.wait(timeout=240)


def descendants(process: int) -> list[int]:
    """A process and all below it."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:  # ended meanwhile
                continue
            parents.setdefault(int(stat.rsplit(")", 1)[1].split()[1]), []).append(int(entry.name))
    found, stack = [], [process]
    while stack:
        found.append(pid := stack.pop())
        stack += parents.get(pid, [])
    return found


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:  # ended meanwhile
        return ""


def wait_for(job: Job, out: Path, phase: str) -> bool:
    """Until the job is in `phase` (or past it: False)."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            now = json.loads((out / "progress.json").read_text())["phase"]
        except FileNotFoundError:
            now = ""
        if now == phase:
            return True
        if now in ("done", "failed") or job.process.poll() is not None:
            return False
        time.sleep(0.005)
    raise AssertionError(f"the job never came to {phase}:\n{job.log.read_text()}")
