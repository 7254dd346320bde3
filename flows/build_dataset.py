"""The flow `build-dataset`: check the configuration, run the job, show what came out.

Prefect gets URIs, counts and pictures of the work; the data stays where the job puts it. The job runs on the Ray cluster
at `address` or RAY_ADDRESS, else as a child process with a Ray of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import Flow, flow, get_run_logger
from prefect.client.schemas.objects import FlowRun, State
from prefect.runtime import flow_run as this_run

from data_pipeline.storage import Storage
from flows.dataset_artifacts import publish
from flows.job_task import run_job_of_flow, stop_jobs
from flows.submission import cluster_in_environment
from ray_jobs.config import DatasetConfig, with_absolute_paths
from ray_jobs.config_file import ConfigError, load, resolved_yaml

JOB = "build-dataset"
# Phases of the job and their rough share of its time, for the progress bar.
SHARES = {"scan": 0.05, "analyse": 0.75, "select": 0.02, "shard": 0.15, "report": 0.03}


def run_name() -> str:
    """The output's name and the start of the run's id, for example `faces-0194a2c7`."""
    given = this_run.parameters
    try:
        output = load(DatasetConfig, given["config"], given["overrides"]).data.output
    except ConfigError:  # the flow itself says what is wrong
        output = Path(given["config"]).stem
    return f"{output.rstrip('/').rsplit('/', 1)[-1]}-{this_run.id[:8]}"


@flow(name="build-dataset", flow_run_name=run_name)
def build_dataset(
    config: str = "configs/faces.yaml",
    overrides: list[str] = [],  # noqa: B006 - never changed; Prefect shows it as the default in its form
    address: str | None = None,
) -> dict[str, Any]:
    """Photos to audited WebDataset shards.

    Args:
        config: configuration file; relative to the project root when a worker runs the flow.
        overrides: changes to it, "section.key=value" each, for example "data.limit=200".
        address: Ray cluster to send the job to: its dashboard, for example "http://head:8265". Empty: RAY_ADDRESS, else
            a Ray on the machine of the worker.

    Returns:
        {"output": URI of the dataset, "counts": {...}, "config_hash": ...}

    Raises:
        ConfigError: every problem of the configuration, before anything is started.
        JobFailed: with the last lines of the job.
    """
    logger = get_run_logger()
    checked = load(DatasetConfig, config, overrides)
    if address or cluster_in_environment():
        checked = with_absolute_paths(checked)
    output = Storage(checked.data.output)
    run_job_of_flow(JOB, resolved_yaml(checked), output.uri, address or None, SHARES)

    if not output.exists("dataset.json"):
        raise FileNotFoundError(
            f"the job is done, but {output.locate('dataset.json')} cannot be seen from here: with a cluster of other machines "
            "`data.output` must be on storage that all share, or a URI such as s3://bucket/name"
        )
    dataset = output.read_json("dataset.json")
    publish(dataset, output)
    counts = dataset["counts"]
    logger.info("%s: %s of %s images accepted", output.uri, f"{counts['accepted']:,}", f"{counts['found']:,}")
    return {"output": output.uri, "counts": counts, "config_hash": dataset["config_hash"]}


@build_dataset.on_cancellation
def stop_job(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    stop_jobs(JOB, flow, flow_run)
