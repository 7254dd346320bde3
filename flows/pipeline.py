"""The flow `pipeline`: from photos to an evaluated encoder, step by step; what is done already is skipped."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows.build_dataset import built
from flows.distill import distilled
from flows.evaluate import evaluated
from flows.job_task import runs_elsewhere, stop_jobs
from flows.pipeline_preflight import refuse_what_is_missing
from flows.pipeline_steps import Step, draw_album, load_pipeline, step_names, steps
from flows.run_names import named_after
from ray_jobs.config import DatasetConfig
from ray_jobs.distill_config import DistillConfig
from ray_jobs.evaluate_config import EvaluateConfig
from ray_jobs.pipeline_config import AlbumConfig


def _output(config: DatasetConfig) -> str:
    return config.pipeline.output if config.pipeline else config.data.output


@flow(name="pipeline", flow_run_name=named_after(DatasetConfig, _output))
def pipeline(
    config: str = "configs/miniature.yaml",
    overrides: list[str] = [],  # noqa: B006 - never changed; Prefect shows it as the default in its form
    address: str | None = None,
) -> dict[str, Any]:
    """Photos to an evaluated encoder: dataset, rounds of training, evaluation.

    Args:
        config: configuration file with a section `pipeline`; relative to the project root when a worker runs the flow.
        overrides: changes to it, "section.key=value" each, for example "pipeline.rounds.0.changes.stage1.seed=7".
        address: Ray cluster to send the jobs to: its dashboard. Empty: RAY_ADDRESS, else a Ray on the worker's machine.

    Returns:
        {"steps": [{"step", "what", "output"}], "summary": the evaluation's means where it was made now}

    Raises:
        ConfigError: every problem of all configuration files, before anything is started.
        JobFailed: with the last lines of the job.
    """
    checked = load_pipeline(config, overrides)
    assert checked.pipeline is not None
    logger, names = get_run_logger(), step_names(checked.pipeline)
    if not runs_elsewhere(address):
        refuse_what_is_missing(checked)
    rows: list[dict[str, str]] = []
    result: dict[str, Any] = {}
    for step in steps(checked, absolute=runs_elsewhere(address)):
        what = "done before," if step.done else "makes"
        logger.info("step %d of %d, %s: %s %s", len(rows) + 1, len(names), step.name, what, step.output)
        if not step.done:
            result = _make(step, address)
        rows.append({"step": step.name, "what": "skipped" if step.done else "made", "output": step.output})
    create_table_artifact(rows, key="pipeline-steps", description="Steps of the pipeline, and where their results are")
    return {"steps": rows, "summary": result.get("summary")}


pipeline.on_cancellation(stop_jobs)


def _make(step: Step, address: str | None) -> dict[str, Any]:
    label = _label(step.name)
    match step.config:
        case AlbumConfig():
            draw(step.config)
            return {}
        case DatasetConfig():
            return built(step.config, address, label)
        case DistillConfig():
            return distilled(step.config, address, label)
        case EvaluateConfig():
            # the history has encoders of other settings, which somebody may have made worse on purpose
            return evaluated(step.config, address, "warn", label)
    raise TypeError(f"{step.name} has a configuration of no known job: {type(step.config).__name__}")


@task(name="render-faces", cache_policy=NO_CACHE)
def draw(album: AlbumConfig) -> None:
    """An album, in this process."""
    draw_album(album)


def _label(step: str) -> str:
    """Of a step's job and its progress."""
    return f"pipeline-{step}"
