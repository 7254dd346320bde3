"""The step of a flow that runs a Ray job: its retries, its progress, and its end when the flow run is cancelled."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from prefect import Flow, Task, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import FlowRun, State, TaskRun
from prefect.logging.loggers import flow_run_logger
from prefect.runtime import flow_run as this_run

from data_pipeline.storage import Storage
from flows.outcome import JobFailed
from flows.progress import ProgressFollower
from flows.submission import (
    CONFIG_NAME,
    attempt_id,
    cluster_in_environment,
    connect,
    run_job,
    stop_attempts,
)


def runs_elsewhere(address: str | None) -> bool:
    """Whether a job of a flow goes to a cluster, where it is in another folder, perhaps on another machine."""
    return bool(address or cluster_in_environment())


def worth_another_try(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """No retry of what would end alike: a bad configuration, or a job that somebody stopped."""
    error = state.data
    return error.worth_retrying if isinstance(error, JobFailed) else not isinstance(error, ValueError)


@task(
    name="run-job",
    retries=2,
    retry_delay_seconds=[10, 60],
    retry_condition_fn=worth_another_try,
    cache_policy=NO_CACHE,
)
def run_job_of_flow(
    name: str,
    config_yaml: str,
    output: str,
    address: str | None,
    shares: dict[str, float],
    label: str,
) -> None:
    """Start the job, or go on following the one that an earlier try or worker of this flow run has started.

    Args:
        name: of the job in words with dashes, `build-dataset` for `ray_jobs.build_dataset`.
        config_yaml: the resolved configuration.
        output: folder or URI where the job keeps `progress.json`.
        address: of a Ray cluster; None: RAY_ADDRESS, else a Ray of the job's own.
        shares: phases of the job and their rough share of its time.
        label: names its submissions and its progress artifact, one for each job of a flow run.
    """
    logger = get_run_logger()
    on_cluster = runs_elsewhere(address)
    job = f"{label}-{this_run.id}"
    submission_id = attempt_id(connect(address), job) if on_cluster else job
    logger.info("job %s %s", submission_id, f"on {address or 'RAY_ADDRESS'}" if on_cluster else "as a child process")
    with tempfile.TemporaryDirectory(prefix="adaface-flow-") as folder:
        config_file = Path(folder) / CONFIG_NAME
        config_file.write_text(config_yaml, encoding="utf-8")
        run_job(
            f"ray_jobs.{name.replace('-', '_')}",
            config_file,
            address=address,
            submission_id=submission_id,
            on_log=lambda line: logger.info("%s", line),
            on_poll=ProgressFollower(Storage(output), shares, f"{label}-progress", logger),
        )


def stop_jobs(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """For `on_cancellation`: end the jobs of a cancelled run on the cluster.

    A run whose worker only died keeps them: its retry goes on.
    """
    address = flow_run.parameters.get("address")
    if runs_elsewhere(address):
        for submission_id in stop_attempts(address, str(flow_run.id)):
            flow_run_logger(flow_run, flow).info("stopped job %s", submission_id)
