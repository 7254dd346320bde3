"""Forty steps in one go, with a worker killed on the way, and in two processes: the same losses, samples and weights."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from ray_jobs.config import JobConfig
from ray_jobs.distill import run
from ray_jobs.distill_config import DistillConfig
from tests.ray_jobs.job_process import Job, command, descendants
from tests.ray_jobs.tiny_training import ACCEPTS_ALL, CLIP, LOSSES, PRODIGY, Configs, equal, training

STEPS, EVERY = 40, 5
# What two runs of the same steps need not have in common
_TIMES = {"seconds", "wait_share", "samples_per_s", "computed_per_s", "tflops", "memory_gb"}


@pytest.fixture(params=[1, 2], ids=["stage 1", "stage 2"])
def stage(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(params=[1, 2], ids=["one worker", "two workers"])
def workers(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def forty(configs: Configs, stage: int, workers: int, tmp_path: Path) -> Callable[[str], DistillConfig]:
    """Makes the configuration of a run of this name."""
    with training(configs()) as (trainer, _):
        first = trainer.task.encoder.save_pretrained(tmp_path / "first", teacher="reference")
    settings: dict[str, Any] = {"plan": {"steps": STEPS}}
    if stage == 2:
        settings["plan"]["compositions"] = 2
        settings |= {"optimizer": PRODIGY, "losses": LOSSES, "filter": ACCEPTS_ALL}
    return lambda name: configs(
        tmp_path,
        name=name,
        stage=stage,
        models={"clip": CLIP, "vision": CLIP},
        machines={"workers": workers, "cpus_per_worker": 0.5},
        log={"checkpoint_every": EVERY, "keep": 2},
        **{f"stage{stage}": {"init": str(first), "stage": settings}},
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_forty_steps_are_the_same_however_they_are_made(
    local_ray: None,
    forty: Callable[[str], DistillConfig],
    start: Callable[[str, JobConfig], Job],
    tmp_path: Path,
    stage: int,
    workers: int,
) -> None:
    """A failure names the KILL_SEED that repeats moment and worker."""
    seed = int(os.environ.get("KILL_SEED", "0")) or random.SystemRandom().randrange(100, 10**6)
    whole = forty("whole")
    run(whole)
    expected = rows(tmp_path / "whole", workers)
    assert [row["step"] for row in expected[0]] == list(range(1, STEPS + 1))
    learned = [row["teachable"] for row in expected[0] if "teachable" in row]
    assert all(share > 0 for share in learned) and bool(learned) == (stage == 2)

    drawn = random.Random(seed)
    step, victim = drawn.randrange(EVERY + 1, STEPS - EVERY), drawn.randrange(workers)
    with killing_a_worker(tmp_path / "killed", step, victim) as kills:
        run(forty("killed"))
    assert kills, f"KILL_SEED={seed}: nobody was killed"
    same(tmp_path, "killed", expected, f"KILL_SEED={seed}: {kills[0]}")

    first = start("distill", forty("halves"))
    while not (tmp_path / "halves/checkpoint_00000020").exists() and first.process.poll() is None:
        time.sleep(0.01)
    assert first.process.poll() is None, first.log.read_text()
    first.kill()
    assert not (tmp_path / "halves/run.json").exists()
    run(forty("halves"))
    same(tmp_path, "halves", expected, "in two processes")


def rows(out: Path, workers: int) -> list[list[dict[str, Any]]]:
    """What each worker says of its steps, but for times."""
    return [
        [
            {name: value for name, value in json.loads(line).items() if name not in _TIMES}
            for file in sorted((out / "log").glob(f"*-rank{rank}.jsonl"))
            for line in file.read_text().splitlines()
        ]
        for rank in range(workers)
    ]


def same(folder: Path, name: str, expected: list[list[dict[str, Any]]], about: str) -> None:
    assert rows(folder / name, len(expected)) == expected, about
    weights = [load_file(folder / each / "encoder/adaface.safetensors") for each in ("whole", name)]
    assert equal(*weights), about


@contextmanager
def killing_a_worker(out: Path, step: int, which: int) -> Iterator[list[str]]:
    """kill -9 for one of this process's training workers, counted from 0 in the order in which they were started, once
    so many steps are done; the list says who it was and when."""
    kills: list[str] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            try:
                done = json.loads((out / "progress.json").read_text())["done"]
            except FileNotFoundError:
                continue
            if done >= step:
                found = [pid for pid in descendants(os.getpid()) if command(pid).startswith("ray::RayTrainWorker")]
                os.kill(sorted(found)[which], signal.SIGKILL)
                kills.append(f"worker {which} of {len(found)}, process {sorted(found)[which]}, after step {done}")
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield kills
    finally:
        over.set()
        thread.join()
