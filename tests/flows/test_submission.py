"""Jobs on a real cluster with token authentication, and as child processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from flows import submission
from flows.outcome import BAD_CONFIGURATION, JobFailed
from flows.submission import run_job
from tests.flows.conftest import RayCluster

# A job as the contract has it, without any work: it says what it was given and does as it is told.
JOB = """
import argparse, os, sys, time
from pathlib import Path
import yaml

parser = argparse.ArgumentParser()
parser.add_argument("--config", required=True)
parser.add_argument("--set", action="append", default=[])
arguments = parser.parse_args()
config = yaml.safe_load(Path(arguments.config).read_text())
with open(config["runs"], "a") as runs:
    runs.write(f"{os.getpid()}\\n")
print("set", arguments.set, flush=True)
for number in range(config["lines"]):
    print(f"\\x1b[36mline {number}\\x1b[0m", flush=True)
while config["wait_for"] and not Path(config["wait_for"]).exists():
    time.sleep(0.05)
print("the end", end="", flush=True)
sys.exit(config["exit"])
"""


class Probe:
    """A project with one job, its configuration, and what its runs leave behind."""

    def __init__(self, folder: Path):
        self.root = folder / "a project"  # with a space, as on many machines
        (self.root / "ray_jobs").mkdir(parents=True)
        (self.root / "ray_jobs" / "__init__.py").touch()
        (self.root / "ray_jobs" / "probe.py").write_text(JOB)
        self.runs = folder / "runs"
        self.gate = folder / "gate"
        self.config = folder / "probe.yaml"
        self.lines: list[str] = []
        self.id = f"probe-{uuid.uuid4().hex[:8]}"

    def run(
        self, address: str | None, *, submission_id: str, lines: int = 3, wait: bool = False, code: int = 0
    ) -> None:
        settings = {"runs": str(self.runs), "lines": lines, "exit": code, "wait_for": str(self.gate) if wait else None}
        self.config.write_text(yaml.safe_dump(settings))
        run_job(
            "ray_jobs.probe",
            self.config,
            ["a.b=it's", "c=$HOME `date`"],
            address=address,
            submission_id=submission_id,
            on_log=self.lines.append,
            poll_seconds=0.3,
            root=self.root,
        )

    def pids(self) -> list[int]:
        return [int(pid) for pid in self.runs.read_text().split()] if self.runs.exists() else []

    def printed(self) -> list[str]:
        return [line for line in self.lines if line.startswith("line ")]


@pytest.fixture
def probe(tmp_path: Path) -> Probe:
    return Probe(tmp_path)


@pytest.fixture
def cluster(ray_cluster: RayCluster, monkeypatch: pytest.MonkeyPatch) -> RayCluster:
    """The cluster, with its token where Ray looks for it, and nothing else said about authentication."""
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(ray_cluster.token_file))
    return ray_cluster


def in_background(run: Callable[[], None]) -> tuple[threading.Thread, list[BaseException]]:
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            run()
        except BaseException as error:  # noqa: BLE001 - handed to the test
            errors.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    return thread, errors


def eventually(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def test_a_job_runs_once_under_one_id_and_its_lines_come_once(cluster: RayCluster, probe: Probe) -> None:
    probe.run(cluster.address, submission_id=probe.id)
    assert probe.printed() == ["line 0", "line 1", "line 2"]
    assert "set [\"a.b=it's\", 'c=$HOME `date`']" in probe.lines  # nothing was read by a shell
    assert probe.lines[-1] == "the end"

    probe.lines.clear()
    probe.run(cluster.address, submission_id=probe.id)
    assert len(probe.pids()) == 1
    assert probe.printed() == []
    assert "SUCCEEDED" in probe.lines[0]


def test_a_second_follower_attaches_to_the_running_job(cluster: RayCluster, probe: Probe, project: Path) -> None:
    thread, errors = in_background(lambda: probe.run(cluster.address, submission_id=probe.id, wait=True))
    eventually(lambda: len(probe.printed()) == 3)

    script = (
        "import sys; from pathlib import Path; from flows.submission import run_job\n"
        "run_job('ray_jobs.probe', Path(sys.argv[1]), address=sys.argv[2], submission_id=sys.argv[3],\n"
        "        root=Path(sys.argv[4]), on_log=lambda line: print(line, flush=True))"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(probe.config), cluster.address, probe.id, str(probe.root)],
        cwd=project,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    first = other.stdout.readline()
    assert "RUNNING" in first
    probe.gate.touch()
    rest = other.communicate(timeout=60)[0].splitlines()
    thread.join(timeout=60)
    assert (errors, other.returncode) == ([], 0)
    assert len(probe.pids()) == 1
    assert "earlier lines" in rest[0]
    assert rest[-1] == "the end"
    assert not any(line.startswith("line ") for line in rest)  # they were there before
    assert probe.lines.count("the end") == 1


def test_a_failed_job_raises_with_its_last_lines_and_the_next_attempt_has_its_own_id(
    cluster: RayCluster, probe: Probe
) -> None:
    client = submission.connect(cluster.address)
    assert submission.attempt_id(client, probe.id) == f"{probe.id}-1"
    with pytest.raises(JobFailed, match=r"(?s)failed with exit code 1;.*line 2\nthe end") as caught:
        probe.run(cluster.address, submission_id=f"{probe.id}-1", code=1)
    assert caught.value.worth_retrying
    with pytest.raises(JobFailed, match="failed with exit code 1"):
        probe.run(cluster.address, submission_id=f"{probe.id}-1")
    assert len(probe.pids()) == 1

    assert submission.attempt_id(client, probe.id) == f"{probe.id}-2"
    with pytest.raises(JobFailed) as caught:
        probe.run(cluster.address, submission_id=f"{probe.id}-2", code=BAD_CONFIGURATION)
    assert not caught.value.worth_retrying
    assert submission.attempt_id(client, probe.id) == f"{probe.id}-3"


def test_a_stopped_job_ends_and_is_not_tried_again(cluster: RayCluster, probe: Probe) -> None:
    thread, errors = in_background(lambda: probe.run(cluster.address, submission_id=f"{probe.id}-1", wait=True))
    eventually(lambda: len(probe.printed()) == 3)
    assert submission.stop_attempts(cluster.address, probe.id) == [f"{probe.id}-1"]
    thread.join(timeout=60)
    assert isinstance(errors[0], JobFailed)
    assert errors[0].stopped and not errors[0].worth_retrying
    assert submission.stop_attempts(cluster.address, probe.id) == []
    with pytest.raises(ProcessLookupError):
        os.kill(probe.pids()[0], 0)


def test_the_address_given_wins_over_the_environment(
    cluster: RayCluster, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:9")  # nothing listens there
    assert submission.find(submission.connect(cluster.address), probe.id) is None
    assert os.environ["RAY_ADDRESS"] == "http://127.0.0.1:9"
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:9"):
        probe.run(None, submission_id=probe.id)
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    probe.run(None, submission_id=probe.id)
    assert len(probe.pids()) == 1


def test_a_cluster_that_wants_a_token_says_how_to_give_it(
    cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "absent"))
    with pytest.raises(ConnectionError, match="RAY_AUTH_TOKEN"):
        submission.connect(cluster.address)


def test_without_an_address_the_job_is_a_child_process(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    probe.run(None, submission_id="unused", lines=300)
    assert probe.printed() == [f"line {number}" for number in range(300)]
    assert probe.lines[-1] == "the end"
    with pytest.raises(JobFailed, match=r"(?s)exit code 2;.*the end") as caught:
        probe.run(None, submission_id="unused", code=2)
    assert not caught.value.worth_retrying


def test_an_interrupted_follower_ends_its_child(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)

    def interrupt(line: str) -> None:
        probe.lines.append(line)
        if line == "line 2":
            signal.raise_signal(signal.SIGINT)

    settings = {"runs": str(probe.runs), "lines": 3, "exit": 0, "wait_for": str(probe.gate)}
    probe.config.write_text(yaml.safe_dump(settings))
    # shells start what runs in the background with this signal ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_job("ray_jobs.probe", probe.config, submission_id="unused", on_log=interrupt, root=probe.root)
    finally:
        signal.signal(signal.SIGINT, before)
    with pytest.raises(ProcessLookupError):
        os.kill(probe.pids()[0], 0)
