"""`pipeline/pipeline` on a real Prefect server, small enough for minutes: on a cluster, again, and with a change."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient
from safetensors.torch import load

from data_pipeline.storage import Storage
from flows import submission
from flows.pipeline_local import submit_step
from flows.pipeline_steps import Step
from ray_jobs.config import DatasetConfig
from tests.flows.conftest import PrefectServer, RayCluster
from tests.flows.flow_runs import artifacts, start, wait_for, wait_for_log
from tests.tiny_world import make_pack, make_photos, settings

CONFIG = "configs/miniature.yaml"
STEPS = ["album-album", "album-people", "dataset", "stage1", "stage2", "evaluation"]


@pytest.fixture
def client(prefect_server: PrefectServer) -> Iterator[SyncPrefectClient]:
    with SyncPrefectClient(prefect_server.url) as opened:
        yield opened


@pytest.fixture
def cluster(ray_cluster: RayCluster, monkeypatch: pytest.MonkeyPatch) -> RayCluster:
    """Which this process has the token of."""
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(ray_cluster.token_file))
    return ray_cluster


def small(folder: Path, store: str | None = None) -> list[str]:
    """Overrides of configs/miniature.yaml: 4 people, two rounds of two steps, 2 prompts for 2 others.

    Args:
        folder: of the albums.
        store: of everything else, a folder or URI; None: `folder`.
    """
    store = store or str(folder)
    evaluation = {
        "subjects": {"folder": f"{folder}/people/people", "given": 1},
        "prompts": {"limit": 2},
        "generation": {"images_per_prompt": 1, "steps": 3, "batch": 4},
        "methods": [{"name": "class-word", "kind": "class_word"}],
        "measures": {"bootstrap": 100},
    }
    rounds = [
        {
            "name": f"stage{stage}",
            "stage": stage,
            "changes": {f"stage{stage}": {"stage": {"plan": {"steps": 2, "batch": batch}, "schedule": {"warmup": 1}}}},
        }
        for stage, batch in ((1, 4), (2, 2))
    ]
    albums = [
        {"folder": f"{folder}/album", "identities": 4, "images": 6, "flat": 4},
        {"folder": f"{folder}/people", "identities": 2, "images": 4, "flat": 0, "seed": 909},
    ]
    return [
        f"data.output='{store}/dataset'",
        f"data.sources.0.path='{folder}/album/people'",
        f"data.sources.1.path='{folder}/album/flat'",
        "cluster.workers=1",
        f"pipeline.output='{store}/out'",
        f"pipeline.draw={json.dumps(albums)}",
        f"pipeline.rounds={json.dumps(rounds)}",
        "pipeline.distill.changes={log: {panel_every: null}}",
        f"pipeline.evaluate.changes={json.dumps(evaluation)}",
    ]


def what_was_done(client: SyncPrefectClient, run_id: Any) -> dict[str, str]:
    rows = json.loads(artifacts(client, run_id)["pipeline-steps"])
    assert [row["step"] for row in rows] == STEPS
    return {row["step"]: row["what"] for row in rows}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_chain_runs_on_a_cluster_once_and_then_only_what_a_change_concerns(
    prefect_server: PrefectServer,
    cluster: RayCluster,
    project: Path,
    client: SyncPrefectClient,
    tmp_path: Path,
) -> None:
    settings, runs = small(tmp_path), tmp_path / "out" / "runs"

    first = start(prefect_server, project, "pipeline", CONFIG, *settings, address=cluster.address)
    run = wait_for(client, first, "COMPLETED", seconds=900)
    assert run.name == f"out-{str(first)[:8]}"
    assert set(what_was_done(client, first).values()) == {"made"}
    shown = artifacts(client, first)
    assert {"pipeline-stage1-progress", "pipeline-stage1-run", "pipeline-stage2-progress", "build-dataset-counts",
            "evaluate-page"} <= set(shown)  # fmt: skip
    assert shown["pipeline-stage2-progress"] == 100
    assert "| steps | 2 |" in shown["pipeline-stage1-run"]
    jobs = submission.connect(cluster.address)
    for step in ("dataset", "stage1", "stage2", "evaluation"):
        job = submission.find(jobs, f"pipeline-{step}-{first}-1")
        assert job is not None and job.status == "SUCCEEDED", step
    page = (tmp_path / "out" / "evaluation" / "report" / "index.html").read_text()
    assert "stage1" in page and "stage2" in page
    encoder = (runs / "stage1" / "encoder" / "adaface.safetensors").read_bytes()

    # without the cluster: what it has made is known by what it is, not by where it was made
    again = start(prefect_server, project, "pipeline/pipeline", CONFIG, *settings)
    wait_for(client, again, "COMPLETED", seconds=300)
    skipped = what_was_done(client, again)
    assert [step for step in STEPS if skipped[step] == "made"] in ([], ["dataset"])  # whose paths read otherwise

    change = "pipeline.rounds.1.changes.stage2.seed=7"
    changed = start(prefect_server, project, "pipeline", CONFIG, *settings, change)
    wait_for(client, changed, "COMPLETED", seconds=600)
    done = what_was_done(client, changed)
    assert [step for step in STEPS if done[step] == "made"] == ["stage2", "evaluation"]
    assert sorted(folder.name for folder in runs.iterdir()) == ["stage1", "stage2", "stage2-2"]
    assert (runs / "stage1" / "encoder" / "adaface.safetensors").read_bytes() == encoder
    wait_for_log(client, changed, f"step 5 of 6, stage2: makes {runs}/stage2-2")

    # a training by itself: its run is done, which its flow finds out
    alone = start(prefect_server, project, "distill-stage1", str(runs / "stage1" / "config.yaml"))
    wait_for(client, alone, "COMPLETED", seconds=300)
    assert "| stage | 1 |" in artifacts(client, alone)["distill-run"]

    # the night's evaluation takes the newest of the pipeline's encoders
    nightly = [f"methods.2={{name: newest, kind: encoder, path: '{runs}'}}", f"output='{tmp_path}/night/out'"]
    nightly += ["generation={images_per_prompt: 1, steps: 2, base: 'package://adaface.miniature/weights/sd', "
                "negative_prompt: null, clip_skip_weights: null}"]  # fmt: skip
    nightly += [f"subjects.folder='{tmp_path}/people/people'", "prompts.limit=1", "measures.bootstrap=100"]
    night = start(prefect_server, project, "evaluate/nightly", "configs/evaluate-miniature.yaml", *nightly)
    wait_for(client, night, "COMPLETED", seconds=300)
    assert "newest" in artifacts(client, night)["evaluate-report"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_cancelled_pipeline_ends_the_job_of_its_step_and_begins_no_other(
    prefect_server: PrefectServer,
    cluster: RayCluster,
    project: Path,
    client: SyncPrefectClient,
    tmp_path: Path,
) -> None:
    endless = "pipeline.rounds.0.changes.stage1.stage.plan.steps=1000000"
    run_id = start(prefect_server, project, "pipeline", CONFIG, *small(tmp_path), endless, address=cluster.address)
    jobs, name = submission.connect(cluster.address), f"pipeline-stage1-{run_id}-1"
    wait_for_job(lambda: (job := submission.find(jobs, name)) is not None and job.status == "RUNNING", seconds=400)
    prefect_server.command("flow-run", "cancel", str(run_id), cwd=project)
    wait_for(client, run_id, "CANCELLED")
    wait_for_job(lambda: (job := submission.find(jobs, name)) is not None and job.status.is_terminal(), seconds=60)
    job = submission.find(jobs, name)
    assert job is not None and job.status == "STOPPED"
    assert submission.find(jobs, f"pipeline-stage1-{run_id}-2") is None  # cancelled, not tried again
    assert submission.find(jobs, f"pipeline-stage2-{run_id}-1") is None
    assert not (tmp_path / "out" / "runs" / "stage1" / "encoder").exists()


def wait_for_job(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"nothing of the kind within {seconds:.0f} s"
        time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_chain_keeps_what_it_makes_in_an_object_store(s3: Callable[[], str], tmp_path: Path) -> None:
    bucket = s3()
    command = [sys.executable, "-m", "flows.cli", "pipeline", "--config", CONFIG]
    for override in small(tmp_path, bucket):
        command += ["--set", override]
    first = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert first.returncode == 0, first.stdout + first.stderr
    store = Storage(bucket)
    assert load(store.read_bytes("out/runs/stage2/encoder/adaface.safetensors"))
    page = store.read_bytes("out/evaluation/report/index.html").decode()
    assert "stage1" in page and "stage2" in page
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["album", "people"]

    encoder = store.read_bytes("out/runs/stage1/encoder/adaface.safetensors")
    again = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "makes" in first.stdout and "makes" not in again.stdout + again.stderr
    assert store.read_bytes("out/runs/stage1/encoder/adaface.safetensors") == encoder


@pytest.mark.slow
def test_without_prefect_a_step_is_sent_to_the_cluster_and_followed(
    cluster: RayCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, pack = make_photos(tmp_path / "photos"), make_pack(tmp_path / "pack")
    config = DatasetConfig.model_validate(settings(photos, pack, tmp_path / "dataset", seed=3))
    step = Step("dataset", "build-dataset", config, str(tmp_path / "dataset"), "0123456789abcdef", done=False)
    submit_step(step, config, cluster.address)
    counts = json.loads((tmp_path / "dataset" / "dataset.json").read_text())["counts"]
    assert counts["found"] == 24
    assert "images accepted" in capsys.readouterr().out  # the job's own lines
    job = submission.find(submission.connect(cluster.address), f"pipeline-dataset-{step.job_key}-1")
    assert job is not None and job.status == "SUCCEEDED"
