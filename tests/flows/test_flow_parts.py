"""The parts of the flow that need no server: what is shown, what is retried, what the names mean."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration._deployments.client import DeploymentAsyncClient
from prefect.flows import load_flow_from_entrypoint
from prefect.plugins import HookContext
from prefect.states import Failed

from data_pipeline.storage import Storage
from flows import short_names
from flows.build_dataset import SHARES
from flows.dataset_artifacts import counts_markdown, reject_rows, report_link
from flows.job_task import run_job_of_flow, worth_another_try
from flows.outcome import JobFailed
from flows.progress import describe, percent
from ray_jobs.config import DatasetConfig, with_absolute_paths
from ray_jobs.config_file import ConfigError

DATASET: dict[str, Any] = {
    "counts": {
        "found": 1200,
        "accepted": 900,
        "rejected": 300,
        "identities": 40,
        "identities_accepted": 38,
        "shards": 2,
        "shard_bytes": 52_400_000,
        "ignored_files": 3,
    },
    "reasons": {"too_small": 60, "no_face": 240, "blurry": 60},
    "sources": [{"name": "a|b", "layout": "flat", "licence": "CC0", "images": 1200, "accepted": 900}],
    "config_hash": "0123456789abcdef",
}


def progress(phase: str, done: int = 0, total: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "phase": phase,
        "done": done,
        "total": total,
        "unit": "images",
        "rate": None,
        "eta_s": None,
        "message": "",
        **more,
    }


def test_percent_grows_through_the_phases_and_ends_at_100() -> None:
    shares = {"scan": 0.1, "analyse": 0.8, "report": 0.1}
    steps = [progress("scan", 0, 10), progress("scan", 5, 10), progress("analyse", 0, 4), progress("analyse", 3, 4)]
    steps += [progress("report", 0, 0), progress("done")]
    assert [percent(step, shares, 0.0) for step in steps] == [0.0, 5.0, 10.0, 70.0, 90.0, 100.0]
    assert percent(progress("failed"), shares, 70.0) == 70.0
    assert percent(progress("analyse", 9, 4), shares, 0.0) == 90.0
    assert sum(SHARES.values()) == pytest.approx(1)


def test_progress_in_words() -> None:
    assert describe(progress("analyse", 1200, 4000, rate=3.14, eta_s=891.2)) == (
        "analyse: 1,200 of 4,000 images, 3.1 images/s, 14m 51s left"
    )
    assert describe(progress("analyse", 1, 9, rate=0.5, eta_s=7322)).endswith("2h 2m 02s left")
    assert describe(progress("scan", 0, 9)) == "scan: 0 of 9 images"
    assert describe(progress("failed", 3, 9, message="the disk is full")) == "failed: the disk is full"
    assert describe(progress("select")) == "select"


def test_counts_and_rejects_of_a_dataset() -> None:
    text = counts_markdown(DATASET, "s3://bucket/faces")
    assert "| accepted | 900 (75.0%) |" in text
    assert "| a\\|b | flat | CC0 | 1,200 | 900 |" in text
    assert not any(line.startswith(" ") for line in text.splitlines())  # Markdown would take it for code

    rows = reject_rows(DATASET)
    assert [(row["reason"], row["images"], row["share"]) for row in rows] == [
        ("no_face", 240, "20.0%"),
        ("blurry", 60, "5.0%"),
        ("too_small", 60, "5.0%"),
    ]
    assert [len(row["histogram"]) for row in rows] == [30, 8, 8]
    nothing = {**DATASET, "counts": {**DATASET["counts"], "found": 0, "accepted": 0}, "reasons": {}}
    assert reject_rows(nothing) == []
    assert "| accepted | 0 (none) |" in counts_markdown(nothing, "x")


def test_the_report_link_opens_from_a_browser(tmp_path: Path) -> None:
    assert report_link(Storage(tmp_path / "my faces")) == f"file://{tmp_path}/my%20faces/report/index.html"


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (JobFailed("out of memory", exit_code=1), True),
        (JobFailed("its node is gone", exit_code=None), True),
        (ConnectionError("no answer"), True),
        (JobFailed("unknown key", exit_code=2), False),
        (JobFailed("ray job stop", stopped=True), False),
        (ConfigError(["unknown key"]), False),
    ],
)
def test_only_what_may_end_better_is_tried_again(error: Exception, again: bool) -> None:
    assert worth_another_try(run_job_of_flow, None, Failed(data=error)) is again  # type: ignore[arg-type]


def test_a_job_in_another_folder_gets_absolute_paths() -> None:
    config = DatasetConfig.model_validate(
        {
            "data": {
                "sources": [{"path": "photos/"}, {"path": "s3://bucket/people"}],
                "output": "out/x",
                "eval_identities": ["eval/*.npy"],
            },
            "perception": {"pack": "~/pack", "parser": {"kind": "bisenet", "file": "models/79999_iter.pth"}},
        }
    )
    resolved = with_absolute_paths(config)
    here = os.getcwd()
    assert [source.path for source in resolved.data.sources] == [f"{here}/photos", "s3://bucket/people"]
    assert [source.name for source in resolved.data.sources] == ["photos", "people"]
    assert resolved.data.output == f"{here}/out/x"
    assert resolved.data.eval_identities == [f"{here}/eval/*.npy"]
    assert resolved.perception.pack == os.path.expanduser("~/pack")
    assert resolved.perception.parser is not None
    assert resolved.perception.parser.file == f"{here}/models/79999_iter.pth"


def test_every_deployment_belongs_to_a_flow_that_takes_its_parameters(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    names = []
    for deployment in yaml.safe_load((project / "prefect.yaml").read_text())["deployments"]:
        flow = load_flow_from_entrypoint(deployment["entrypoint"], use_placeholder_flow=False)
        flow.validate_parameters(deployment["parameters"])
        assert (project / deployment["parameters"]["config"]).is_file()
        assert flow.on_cancellation_hooks, f"a cancelled {flow.name} leaves its job running"
        names.append(f"{flow.name}/{deployment['name']}")
    assert names == [
        "build-dataset/build-dataset",
        "distill-stage1/distill-stage1",
        "distill-stage2/distill-stage2",
        "pipeline/pipeline",
        "evaluate/nightly",
    ]


def context(messages: list[str]) -> HookContext:
    def factory(name: str) -> logging.Logger:
        logger = logging.Logger(name)
        handler = logging.Handler()
        handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
        logger.addHandler(handler)
        return logger

    return HookContext(prefect_version="9.9", api_url=None, logger_factory=factory)


def test_short_names() -> None:
    assert short_names.full_name("build-dataset") == "build-dataset/build-dataset"
    assert short_names.full_name("pipeline/nightly") == "pipeline/nightly"


def test_the_plugin_is_applied_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        DeploymentAsyncClient, "read_deployment_by_name", DeploymentAsyncClient.read_deployment_by_name
    )
    short_names.setup_environment(ctx=context([]))
    once = DeploymentAsyncClient.read_deployment_by_name
    short_names.setup_environment(ctx=context([]))
    assert DeploymentAsyncClient.read_deployment_by_name is once


def test_another_prefect_gets_a_warning_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[str] = []
    monkeypatch.setitem(sys.modules, "prefect.client.orchestration._deployments.client", None)
    short_names.setup_environment(ctx=context(messages))
    assert len(messages) == 1
    assert "build-dataset/build-dataset" in messages[0]
    monkeypatch.undo()
    monkeypatch.delattr(DeploymentAsyncClient, "read_deployment_by_name")
    short_names.setup_environment(ctx=context(messages))
    assert len(messages) == 2
