"""The deployment on a real Prefect server, run by a real worker: both forms of the command, the artifacts, cancellation."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient

from flows import submission
from tests.flows.conftest import PrefectServer, RayCluster
from tests.flows.flow_runs import artifacts, logs, start, wait_for, wait_for_log


@pytest.fixture
def client(prefect_server: PrefectServer) -> Iterator[SyncPrefectClient]:
    with SyncPrefectClient(prefect_server.url) as opened:
        yield opened


@pytest.fixture(scope="session")
def build_config(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A configuration over a few real photos; each call has an output of its own."""

    def write(images: int = 4, each: int | None = 2, **data: Any) -> Path:
        folder = tmp_path_factory.mktemp("build")
        values = {
            "data": {
                "sources": [
                    {"path": str(shared / "faces"), "name": "faces", "max_per_identity": each, "licence": "test"}
                ],
                "output": str(folder / "some-faces"),
                "limit": images,
                "part_size": 2,
                "image_size": 128,
                "min_parts": 3,
                "max_parts": None,
                "min_identity_images": None,
                **data,
            },
            "perception": {
                "pack": str(shared / "models" / "real_pack"),
                "detector_sizes": [320],
                "parser": {
                    "kind": "onnx",
                    "file": str(shared / "models" / "parse_skin_cloth_hair.onnx"),
                    "channels": ["skin", "cloth", "hair"],
                    "threshold": 0.5,
                },
            },
            "cluster": {"workers": 1},
        }
        (folder / "build.yaml").write_text(yaml.safe_dump(values))
        return folder / "build.yaml"

    return write


def output_of(config: Path) -> Path:
    return config.parent / "some-faces"


def test_a_wrong_configuration_fails_at_once_with_all_problems(
    prefect_server: PrefectServer, project: Path, client: SyncPrefectClient
) -> None:
    run_id = start(prefect_server, project, "build-dataset", "configs/faces.yaml", "data.min_fase=64", "data.seed=-1")
    run = wait_for(client, run_id, "FAILED")
    assert run.state is not None and run.state.message is not None
    assert "data.min_face" in run.state.message  # what was meant
    assert "data.seed" in run.state.message
    assert run.name.startswith("faces-")


@pytest.fixture(scope="session")
def built(prefect_server: PrefectServer, project: Path, build_config: Callable[..., Path]) -> tuple[UUID, Path]:
    """A run of the deployment by its short name, without a cluster; and its configuration."""
    config = build_config()
    run_id = start(prefect_server, project, "build-dataset", config)
    with SyncPrefectClient(prefect_server.url) as client:
        wait_for(client, run_id, "COMPLETED")
    return run_id, config


def test_the_deployment_builds_the_dataset(built: tuple[UUID, Path], client: SyncPrefectClient) -> None:
    run_id, config = built
    assert client.read_flow_run(run_id).name == f"some-faces-{str(run_id)[:8]}"
    dataset = json.loads((output_of(config) / "dataset.json").read_text())
    assert dataset["counts"]["found"] == 4
    shown = artifacts(client, run_id)
    assert set(shown) == {
        "build-dataset-progress",
        "build-dataset-counts",
        "build-dataset-rejects",
        "build-dataset-report",
    }
    assert shown["build-dataset-progress"] == 100
    assert "| images found | 4 |" in shown["build-dataset-counts"]
    rejects = json.loads(shown["build-dataset-rejects"])
    assert {row["reason"]: row["images"] for row in rejects} == dataset["reasons"]
    assert f"(file://{output_of(config)}/report/index.html)" in shown["build-dataset-report"]
    assert (output_of(config) / "report" / "index.html").is_file()
    wait_for_log(client, run_id, "analyse: 4 distinct images")  # the job's own lines


def test_the_job_runs_on_a_cluster_and_gives_the_same_shards(
    prefect_server: PrefectServer,
    ray_cluster: RayCluster,
    project: Path,
    client: SyncPrefectClient,
    build_config: Callable[..., Path],
    built: tuple[UUID, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(ray_cluster.token_file))
    config = build_config()
    run_id = start(prefect_server, project, "build-dataset/build-dataset", config, address=ray_cluster.address)
    wait_for(client, run_id, "COMPLETED")
    jobs = submission.connect(ray_cluster.address)
    job = submission.find(jobs, f"build-dataset-{run_id}-1")
    assert job is not None and job.status == "SUCCEEDED"
    assert submission.find(jobs, f"build-dataset-{run_id}-2") is None
    assert artifacts(client, run_id)["build-dataset-progress"] == 100
    wait_for_log(client, run_id, "analyse: 4 distinct images")
    on_cluster = json.loads((output_of(config) / "dataset.json").read_text())

    by_itself = json.loads((output_of(built[1]) / "dataset.json").read_text())
    assert by_itself["shards"] == on_cluster["shards"]  # byte for byte: they hold sha256 sums
    assert by_itself["counts"] == on_cluster["counts"]


def test_a_cancelled_run_ends_its_job(
    prefect_server: PrefectServer,
    ray_cluster: RayCluster,
    project: Path,
    client: SyncPrefectClient,
    build_config: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(ray_cluster.token_file))
    config = build_config(images=141, each=None, part_size=1)  # more than are done before the command is heard
    run_id = start(prefect_server, project, "build-dataset", config, address=ray_cluster.address)
    jobs = submission.connect(ray_cluster.address)
    deadline = time.monotonic() + 60
    while (job := submission.find(jobs, f"build-dataset-{run_id}-1")) is None or job.status == "PENDING":
        assert time.monotonic() < deadline, logs(client, run_id)
        time.sleep(0.3)
    prefect_server.command("flow-run", "cancel", str(run_id), cwd=project)
    wait_for(client, run_id, "CANCELLED")
    deadline = time.monotonic() + 30  # Ray gives a job some seconds to end by itself
    while (job := submission.find(jobs, f"build-dataset-{run_id}-1")) is None or not job.status.is_terminal():
        assert time.monotonic() < deadline, logs(client, run_id)
        time.sleep(0.3)
    assert job.status == "STOPPED"
    assert submission.find(jobs, f"build-dataset-{run_id}-2") is None  # cancelled, not tried again
