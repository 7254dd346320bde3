"""The flow `build-dataset`: check the configuration, run the job, show what came out.

Prefect gets URIs, counts and pictures of the work; the data stays where the job puts it. The job runs on the Ray cluster
at `address` or RAY_ADDRESS, else as a child process with a Ray of its own.
"""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger

from data_pipeline.storage import Storage
from flows.dataset_artifacts import publish
from flows.job_files import read_result
from flows.job_task import run_job_of_flow, runs_elsewhere, stop_jobs
from flows.run_names import named_after
from ray_jobs.config import DatasetConfig, with_absolute_paths
from ray_jobs.config_file import load, resolved_yaml

JOB = "build-dataset"
# Phases of the job and their rough share of its time, for the progress bar.
SHARES = {"scan": 0.05, "analyse": 0.75, "select": 0.02, "shard": 0.15, "report": 0.03}


@flow(name="build-dataset", flow_run_name=named_after(DatasetConfig, lambda config: config.data.output))
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
    checked = load(DatasetConfig, config, overrides)
    if runs_elsewhere(address):
        checked = with_absolute_paths(checked)
    return built(checked, address)


def built(config: DatasetConfig, address: str | None, label: str = JOB) -> dict[str, Any]:
    """Run the job inside of a flow run and show what came out; see `build_dataset` and `run_job_of_flow`."""
    output = Storage(config.data.output)
    run_job_of_flow(JOB, resolved_yaml(config), output.uri, address or None, SHARES, label)
    dataset = read_result(output, "dataset.json", "data.output")
    publish(dataset, output)
    counts = dataset["counts"]
    accepted, found = f"{counts['accepted']:,}", f"{counts['found']:,}"
    get_run_logger().info("%s: %s of %s images accepted", output.uri, accepted, found)
    return {"output": output.uri, "counts": counts, "config_hash": dataset["config_hash"]}


build_dataset.on_cancellation(stop_jobs)
