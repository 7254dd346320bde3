"""Runs of deployments on the server of the tests."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun

from tests.flows.conftest import PrefectServer


def start(server: PrefectServer, project: Path, name: str, config: Path | str, *overrides: str, **more: str) -> UUID:
    """`prefect deployment run NAME --param ...` in the project root; the id of the flow run."""
    given = {"config": str(config), "overrides": json.dumps(overrides), **more}
    words = [word for key, value in given.items() for word in ("--param", f"{key}={value}")]
    printed = server.command("deployment", "run", name, *words, cwd=project)
    found = re.search(r"UUID: ([0-9a-f-]{36})", printed)
    assert found, printed
    return UUID(found[1])


def wait_for(client: SyncPrefectClient, run_id: UUID, *states: str, seconds: float = 150) -> FlowRun:
    deadline = time.monotonic() + seconds
    while True:
        run = client.read_flow_run(run_id)
        kind = run.state.type.value if run.state else "NONE"
        if kind in states:
            return run
        final = run.state is not None and run.state.is_final()
        if final or time.monotonic() > deadline:
            pytest.fail(f"the run is {kind}, not {states}: {run.state}\n{logs(client, run_id)}")
        time.sleep(0.5)


def logs(client: SyncPrefectClient, run_id: UUID) -> str:
    records = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run_id])), limit=200)
    return "\n".join(record.message for record in records)


def wait_for_log(client: SyncPrefectClient, run_id: UUID, text: str, *, seconds: float = 60) -> None:
    """Wait until `text` is in the run's log: it is sent in batches and may arrive after the run's last state."""
    deadline = time.monotonic() + seconds
    while text not in (said := logs(client, run_id)):
        if time.monotonic() > deadline:
            pytest.fail(f"{text!r} did not arrive in the log within {seconds:.0f} s:\n{said}")
        time.sleep(0.5)


def artifacts(client: SyncPrefectClient, run_id: UUID) -> dict[str, Any]:
    found = client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id])))
    return {str(artifact.key): artifact.data for artifact in found}
