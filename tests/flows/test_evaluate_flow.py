"""`evaluate/nightly` on a real Prefect server: it evaluates what is new, once, and fails when an encoder got worse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prefect.client.orchestration import SyncPrefectClient

from ray_jobs.evaluate_history import SCHEMA
from tests.flows.conftest import PrefectServer
from tests.flows.flow_runs import artifacts, start, wait_for, wait_for_log
from tests.tiny_evaluation import make_encoder, make_people, small_settings

NIGHTLY = "evaluate/nightly"
CONFIG = "configs/evaluate-miniature.yaml"


@pytest.fixture
def client(prefect_server: PrefectServer) -> Iterator[SyncPrefectClient]:
    with SyncPrefectClient(prefect_server.url) as opened:
        yield opened


def test_the_schedule_is_deployed(prefect_server: PrefectServer, client: SyncPrefectClient) -> None:
    deployment = client.read_deployment_by_name(NIGHTLY)
    (schedule,) = deployment.schedules
    assert schedule.schedule.cron == "30 3 * * *" and schedule.active
    assert deployment.global_concurrency_limit is not None and deployment.global_concurrency_limit.limit == 1


def settings_in(folder: Path) -> list[str]:
    """Of nights that look for encoders in `pipeline` and `trained`."""
    people, folders = make_people(folder / "people"), [folder / "pipeline", folder / "trained"]
    path = f"methods.1.path=['{folders[0]}', '{folders[1]}']"
    return small_settings(people, folders[0], folder / "runs" / "night", path)


@pytest.mark.timeout(900)  # three flow runs and an evaluation, each with a Ray of its own
def test_what_is_new_is_evaluated_once(
    prefect_server: PrefectServer, project: Path, client: SyncPrefectClient, tmp_path: Path
) -> None:
    settings = settings_in(tmp_path)
    too_early = start(prefect_server, project, NIGHTLY, CONFIG, *settings)
    state = wait_for(client, too_early, "COMPLETED", seconds=200).state
    assert state is not None and state.name == "No encoder yet" and "there is no folder" in str(state.message)

    make_encoder(tmp_path / "pipeline" / "stage2" / "checkpoint_100" / "encoder")
    first = start(prefect_server, project, NIGHTLY, CONFIG, *settings)
    wait_for(client, first, "COMPLETED", seconds=400)
    shown = artifacts(client, first)
    assert set(shown) == {"evaluate-progress", "evaluate-report", "evaluate-page", "evaluate-findings"}
    assert "ours" in shown["evaluate-report"]
    assert (tmp_path / "runs" / "night" / "report" / "index.html").is_file()

    again = start(prefect_server, project, NIGHTLY, CONFIG, *settings)
    state = wait_for(client, again, "COMPLETED", seconds=200).state
    assert state is not None and state.name == "Nothing new"
    assert artifacts(client, again) == {}


@pytest.mark.slow
@pytest.mark.timeout(1500)  # five flow runs and three evaluations, each with a Ray of its own
def test_a_loss_fails_the_run(
    prefect_server: PrefectServer, project: Path, client: SyncPrefectClient, tmp_path: Path
) -> None:
    settings = settings_in(tmp_path)
    make_encoder(tmp_path / "pipeline" / "stage2" / "checkpoint_100" / "encoder")
    first = start(prefect_server, project, NIGHTLY, CONFIG, *settings)
    wait_for(client, first, "COMPLETED", seconds=400)

    # somebody was recognised before, and is not any more
    (history,) = (tmp_path / "runs" / "history").glob("*.parquet")
    rows = pq.read_table(history).to_pylist()
    better = [
        {**row, "run": "0-better", "method_hash": "other weights"}
        | {"mean": row["mean"] + 0.5, "low": row["mean"] + 0.4, "high": row["mean"] + 0.6}
        for row in rows
        if row["column"] == "gap_judge" and row["method"] == "ours"
    ]
    assert better
    history.unlink()
    pq.write_table(pa.Table.from_pylist(better, schema=SCHEMA), history.with_name("0-better.parquet"))
    worse = start(prefect_server, project, NIGHTLY, CONFIG, *settings, only_new="false")
    state = wait_for(client, worse, "FAILED", seconds=300).state
    assert state is not None and "ours gap_judge: " in str(state.message), state
    assert "it fell by 0.500" in str(state.message)
    wait_for_log(client, worse, "more than its interval of 0.100")

    # the next night there is nothing new, and what was found is no better for that
    still = start(prefect_server, project, NIGHTLY, CONFIG, *settings)
    state = wait_for(client, still, "FAILED", seconds=200).state
    assert state is not None and "ours gap_judge: " in str(state.message) and "which failed" in str(state.message)
    told = start(prefect_server, project, NIGHTLY, CONFIG, *settings, on_regression="warn")
    state = wait_for(client, told, "COMPLETED", seconds=200).state
    assert state is not None and state.name == "Nothing new"
    wait_for_log(client, told, "which failed")

    # a newer checkpoint elsewhere, as bad: it is compared with what was good, not with the run that failed
    make_encoder(tmp_path / "trained" / "stage1" / "checkpoint_5" / "encoder", seed=2)
    newer = start(prefect_server, project, NIGHTLY, CONFIG, *settings, on_regression="warn")
    state = wait_for(client, newer, "COMPLETED", seconds=400).state
    assert state is not None and state.name == "Completed"
    wait_for_log(client, newer, "in 0-better, now")
    assert [*(tmp_path / "runs" / "night" / "encoders").glob("stage1-checkpoint_5-encoder-*")]
    findings = {row["column"]: row for row in json.loads(artifacts(client, newer)["evaluate-findings"])}
    assert findings["gap_judge"]["level"] == "fail" and findings["gap_judge"]["method"] == "ours"
