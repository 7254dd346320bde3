"""A build that is killed anywhere and run again is the build that was never disturbed; and only one build at a
time."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from data_pipeline.lock import output_lock
from data_pipeline.storage import Storage
from data_pipeline.verify import verify
from ray_jobs.build_dataset import main
from ray_jobs.config import DatasetConfig, JobConfig
from tests.ray_jobs.conftest import content, tree
from tests.ray_jobs.job_process import Job, command, wait_for

PHASES = ("scan", "analyse", "select", "shard", "report")
LONG = ("scan", "analyse", "shard")  # the others may be over before the blow falls

Start = Callable[[str, JobConfig], Job]
MakeConfig = Callable[..., DatasetConfig]


def killed_and_continued(
    start: Start, config: MakeConfig, made: Path, tmp_path: Path, phases: tuple[str, ...], dice: random.Random
) -> list[str]:
    """Kill a build in each of the phases, go on, and compare; returns the phases in which it was hit."""
    sources = tree(Path(config().data.sources[0].path))
    out, killed = tmp_path / "out", []
    for phase in phases:
        job = start("build_dataset", config())
        if wait_for(job, out, phase):
            time.sleep(dice.uniform(0, 0.6))
        if job.process.poll() is None:
            job.kill()
            killed.append(phase)
    assert start("build_dataset", config()).wait() == 0
    assert content(out) == content(made), f"killed in {killed}"
    assert verify(str(out)) == []
    assert list(out.rglob(".tmp-*")) == []
    assert tree(Path(config().data.sources[0].path)) == sources
    return killed


def test_killed_in_some_phase_and_continued(start: Start, config: MakeConfig, made: Path, tmp_path: Path) -> None:
    """The moment is new in every run of the tests; a failure names the KILL_SEED that repeats it."""
    seed = int(os.environ.get("KILL_SEED", "0")) or random.SystemRandom().randrange(100, 10**6)
    dice = random.Random(seed)
    phases = (dice.choice(LONG),)
    assert killed_and_continued(start, config, made, tmp_path, phases, dice) == list(phases), f"KILL_SEED={seed}"


@pytest.mark.slow
@pytest.mark.timeout(900)  # six builds, each with a Ray of its own
@pytest.mark.parametrize("seed", range(6))
def test_killed_in_every_phase_and_continued(
    start: Start, config: MakeConfig, made: Path, tmp_path: Path, seed: int
) -> None:
    killed = killed_and_continued(start, config, made, tmp_path, PHASES, random.Random(seed))
    assert set(LONG) <= set(killed), f"only {killed} were hit"


def test_a_worker_that_dies_is_replaced(start: Start, config: MakeConfig, made: Path, tmp_path: Path) -> None:
    job = start("build_dataset", config(part_size=1))
    assert wait_for(job, tmp_path / "out", "analyse")
    victim: list[int] = []
    while not victim and job.process.poll() is None:
        victim = [pid for pid in job.tree() if command(pid).startswith("ray::MapWorker(Map(_AnalyseActor))")]
        time.sleep(0.01)
    os.kill(victim[0], signal.SIGKILL)
    assert job.wait() == 0, job.log.read_text()
    ours, theirs = content(tmp_path / "out"), content(made)
    assert {name: value for name, value in ours.items() if name.endswith(".tar")}.keys() == {
        name for name in theirs if name.endswith(".tar")
    }
    assert verify(str(tmp_path / "out")) == []
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["counts"]["accepted"] == 24


def test_a_second_build_into_the_same_folder_is_refused(
    config: MakeConfig, out: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(config().model_dump(mode="json")))
    before = tree(out)
    with output_lock(Storage(str(out))):  # as the first one holds it
        assert main(["--config", str(file)]) == 1
    message = capfd.readouterr().out
    assert f"is being written by process {os.getpid()} on " in message
    assert "Wait for it to end, or choose another folder for the output" in message
    assert "Traceback" not in message
    after = tree(out)
    assert {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} <= {".lock"}
