"""A training that takes between one and two workers goes on with one when a machine is lost, on the samples that come next."""

from __future__ import annotations

import hashlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from data_pipeline.stream import TrainingStream
from ray_jobs.config import JobConfig
from ray_jobs.distill_config import DistillConfig
from tests.ray_jobs.job_process import Job
from tests.ray_jobs.tiny_training import Configs

STEPS, EVERY = 60, 5


@pytest.fixture
def two_machines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A Ray cluster of two nodes with room for one worker each, which jobs join."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    head = {"num_cpus": 1, "include_dashboard": True, "dashboard_port": port}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    yield cluster
    cluster.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_lost_machine_costs_a_worker_and_no_sample(
    two_machines: Cluster, configs: Configs, start: Callable[[str, JobConfig], Job], tmp_path: Path
) -> None:
    config = configs(
        tmp_path,
        name="elastic",
        machines={"workers": [1, 2]},
        log={"checkpoint_every": EVERY},
        stage1={"stage": {"plan": {"steps": STEPS}}},
    )
    job = start("distill", config)
    out = tmp_path / "elastic"
    # the third has begun to be stored, so that the first is
    while len(list(out.glob("checkpoint_*"))) < 3 and job.process.poll() is None:
        time.sleep(0.01)
    assert job.process.poll() is None, job.log.read_text()
    [worker] = [node for node in two_machines.list_all_nodes() if node is not two_machines.head_node]
    two_machines.remove_node(worker, allow_graceful=False)
    assert job.wait() == 0, job.log.read_text()

    rows = [_rows(out, rank) for rank in range(2)]
    assert list(rows[0]) == list(range(1, STEPS + 1))
    lost = len(rows[1])
    assert list(rows[1]) == list(range(1, lost + 1)), "two workers first, then one"
    assert EVERY <= lost < STEPS
    expected = _samples_of_steps(config, workers=[2] * lost + [1] * (STEPS - lost))
    found = [[rows[rank][step]["keys"] for rank in range(2) if step in rows[rank]] for step in rows[0]]
    assert found == expected


def _rows(out: Path, rank: int) -> dict[int, dict[str, Any]]:
    """Step -> what this worker wrote of it."""
    files = sorted((out / "log").glob(f"*-rank{rank}.jsonl"))
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert len({row["step"] for row in rows}) == len(rows), "a step is there twice"
    return {row["step"]: row for row in rows}


def _samples_of_steps(config: DistillConfig, workers: list[int]) -> list[list[str]]:
    """The digests of the keys of each worker's samples, if no draw of the sequence is left out or made twice."""
    stream = TrainingStream(config.data, seed=config.run_config.seed, block=config.samples)
    size, batches = config.samples, config.run_config.stage.plan.accumulate
    steps, position = [], 0
    for count in workers:
        drawn = [stream.draw(position + number).key for number in range(count * batches * size)]
        position += len(drawn)
        keys = [
            [tuple(drawn[(batch * count + rank) * size :][:size]) for batch in range(batches)] for rank in range(count)
        ]
        steps.append([hashlib.sha256(json.dumps(each).encode()).hexdigest()[:16] for each in keys])
    return steps
