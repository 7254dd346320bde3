"""A build that is killed anywhere and run again is the build that was never disturbed; and only one build at a
time."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from data_pipeline.verify import verify
from ray_jobs.config import DatasetConfig
from tests.ray_jobs.conftest import content, tree
from tests.ray_jobs.job_process import Job, command, wait_for

PHASES = ("scan", "analyse", "select", "shard", "report")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[DatasetConfig], Job]]:
    jobs: list[Job] = []

    def start(config: DatasetConfig) -> Job:
        file = tmp_path / "job.yaml"
        file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
        jobs.append(Job("ray_jobs.build_dataset", file, tmp_path / f"job-{len(jobs)}.log"))
        return jobs[-1]

    yield start
    for job in jobs:
        if job.process.poll() is None:
            job.kill()


@pytest.mark.parametrize("seed", [None, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))])
def test_killed_in_every_phase_and_continued(
    start: Callable[[DatasetConfig], Job],
    config: Callable[..., DatasetConfig],
    made: Path,
    tmp_path: Path,
    photos: Path,
    seed: int | None,
) -> None:
    """Without a seed the moments are new in every run of the tests; a failure names the seed that repeats them."""
    seed = seed or int(os.environ.get("KILL_SEED", "0")) or random.SystemRandom().randrange(100, 10**6)
    dice = random.Random(seed)
    before = tree(photos)
    out, killed = tmp_path / "out", []
    for phase in PHASES:
        job = start(config())
        if wait_for(job, out, phase):
            time.sleep(dice.uniform(0, 0.6))
        if job.process.poll() is None:
            job.kill()
            killed.append(phase)
    assert start(config()).wait() == 0
    assert content(out) == content(made), f"killed in {killed} (KILL_SEED={seed})"
    assert {"scan", "analyse", "shard"} <= set(killed), f"only {killed} were hit (KILL_SEED={seed})"
    assert verify(str(out)) == []
    assert list(out.rglob(".tmp-*")) == []
    assert tree(photos) == before


def test_a_worker_that_dies_is_replaced(
    start: Callable[[DatasetConfig], Job], config: Callable[..., DatasetConfig], made: Path, tmp_path: Path
) -> None:
    job = start(config(part_size=1))
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
    start: Callable[[DatasetConfig], Job], config: Callable[..., DatasetConfig], made: Path, tmp_path: Path
) -> None:
    first = start(config())
    assert wait_for(first, tmp_path / "out", "scan")
    second = start(config())
    assert second.wait() == 1
    message = second.log.read_text()
    assert f"is being built by process {first.process.pid} on " in message
    assert "Wait for it to end, or choose another data.output" in message
    assert "Traceback" not in message
    assert first.wait() == 0, first.log.read_text()
    assert content(tmp_path / "out") == content(made)
