"""The flows `distill-stage1` and `distill-stage2`: check the configuration, run the job, show what was trained.

A run that is started again goes on from its last checkpoint; one that is done is not trained again.
"""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_link_artifact, create_markdown_artifact

from data_pipeline.storage import Storage
from flows.job_files import read_result
from flows.job_task import run_job_of_flow, runs_elsewhere, stop_jobs
from flows.run_names import named_after
from flows.run_summary import last_panel, run_markdown
from ray_jobs.config_file import load, resolved_yaml
from ray_jobs.distill_config import DistillConfig, with_absolute_paths

JOB = "distill"
RESULT = "run.json"  # as ray_jobs.distill writes it, which is not imported for its name: it imports torch and Ray


@flow(name="distill-stage1", flow_run_name=named_after(DistillConfig, lambda config: config.name))
def distill_stage1(
    config: str = "configs/distill-miniature.yaml",
    overrides: list[str] = [],  # noqa: B006 - never changed; Prefect shows it as the default in its form
    address: str | None = None,
) -> dict[str, Any]:
    """An encoder that says who somebody is, learned from Arc2Face.

    Args:
        config: configuration file; relative to the project root when a worker runs the flow.
        overrides: changes to it, "section.key=value" each, for example "stage1.seed=7".
        address: Ray cluster to send the job to: its dashboard. Empty: RAY_ADDRESS, else a Ray on the worker's machine.

    Returns:
        {"output": URI of the run, "encoder": its folder, "steps", "loss", "config_hash"}

    Raises:
        ConfigError: every problem of the configuration, before anything is started.
        JobFailed: with the last lines of the job.
    """
    return _of_stage(1, config, overrides, address)


@flow(name="distill-stage2", flow_run_name=named_after(DistillConfig, lambda config: config.name))
def distill_stage2(
    config: str = "configs/distill-miniature.yaml",
    overrides: list[str] = [],  # noqa: B006
    address: str | None = None,
) -> dict[str, Any]:
    """An encoder of stage 1 that learns to leave the scene to the words; parameters and result as `distill-stage1`."""
    return _of_stage(2, config, overrides, address)


def _of_stage(stage: int, config: str, overrides: list[str], address: str | None) -> dict[str, Any]:
    checked = load(DistillConfig, config, [*overrides, f"stage={stage}"])
    if runs_elsewhere(address):
        checked = with_absolute_paths(checked)
    return distilled(checked, address)


def distilled(config: DistillConfig, address: str | None, label: str = JOB) -> dict[str, Any]:
    """Run the job inside of a flow run and show what was trained; see `distill_stage1` and `run_job_of_flow`."""
    output = Storage(config.folder)
    run_job_of_flow(JOB, resolved_yaml(config), output.uri, address or None, {f"stage{config.stage}": 1.0}, label)
    run = read_result(output, RESULT, "output")
    create_markdown_artifact(run_markdown(run, output), key=f"{label}-run", description=f"The run {output.uri}")
    if panel := last_panel(output):
        place = output.local_path(panel).as_uri() if output.is_local else output.locate(panel)
        create_link_artifact(place, link_text="Pictures", key=f"{label}-panel", description=output.locate(panel))
    get_run_logger().info("%s: %s steps", run["encoder"], f"{run['steps']:,}")
    return {"output": output.uri, **{key: run[key] for key in ("encoder", "steps", "loss", "config_hash")}}


distill_stage1.on_cancellation(stop_jobs)
distill_stage2.on_cancellation(stop_jobs)
