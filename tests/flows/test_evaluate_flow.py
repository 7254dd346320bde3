"""`evaluate/nightly` on a real Prefect server: it evaluates what is new, once, and fails when an encoder got worse."""

from __future__ import annotations

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
    (schedule,) = client.read_deployment_by_name(NIGHTLY).schedules
    assert schedule.schedule.cron == "30 3 * * *" and schedule.active


@pytest.mark.timeout(900)  # three flow runs and an evaluation, with a Ray of its own
def test_what_is_new_is_evaluated_and_a_loss_fails_the_run(
    prefect_server: PrefectServer, project: Path, client: SyncPrefectClient, tmp_path: Path
) -> None:
    people, checkpoints = make_people(tmp_path / "people"), tmp_path / "checkpoints"
    make_encoder(checkpoints / "step-000100")
    settings = small_settings(people, checkpoints, tmp_path / "runs" / "night")

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
    assert state is not None and "it fell by 0.500" in str(state.message), state
    wait_for_log(client, worse, "more than its interval of 0.100")
