"""The flow `evaluate`: find what is new, run the job, compare with the history, show the report.

Its deployment `evaluate/nightly` runs on a schedule over a folder of checkpoints: nothing new, nothing to do; identity
or text alignment worse than before by more than the interval, and the run fails.
"""

from __future__ import annotations

from typing import Any, Literal

from prefect import Flow, flow, get_run_logger
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import FlowRun, State
from prefect.runtime import flow_run as this_run
from prefect.states import Completed

from data_pipeline.storage import Storage
from flows.dataset_artifacts import report_link
from flows.job_task import run_job_of_flow, stop_jobs
from flows.outcome import Regression
from flows.submission import cluster_in_environment
from ray_jobs.config_file import ConfigError, load, resolved_yaml
from ray_jobs.evaluate_config import EvaluateConfig, with_absolute_paths

JOB = "evaluate"
# Phases of the job and their rough share of its time, for the progress bar.
SHARES = {"faces": 0.05, "pictures": 0.9, "scores": 0.03, "report": 0.02}


def run_name() -> str:
    """The output's name and the start of the run's id, for example `miniature-0194a2c7`."""
    given = this_run.parameters
    try:
        output = load(EvaluateConfig, given["config"], given["overrides"]).output
    except ConfigError:  # the flow itself says what is wrong
        output = str(given["config"])
    return f"{output.rstrip('/').rsplit('/', 1)[-1]}-{this_run.id[:8]}"


@flow(name="evaluate", flow_run_name=run_name)
def evaluate(
    config: str = "configs/evaluate-miniature.yaml",
    overrides: list[str] = [],  # noqa: B006 - never changed; Prefect shows it as the default in its form
    address: str | None = None,
    only_new: bool = False,
    on_regression: Literal["fail", "warn"] = "fail",
) -> Any:
    """Pictures of people by several methods, scored and compared.

    Args:
        config: configuration file; relative to the project root when a worker runs the flow.
        overrides: changes to it, "section.key=value" each, for example "generation.steps=20".
        address: Ray cluster to send the job to: its dashboard. Empty: RAY_ADDRESS, else a Ray on the worker's machine.
        only_new: end at once where every encoder of the configuration has been evaluated under this protocol before.
        on_regression: what happens when an encoder's identity or text alignment fell by more than its interval.

    Returns:
        {"output": URI, "summary": overall means, "findings": [...]}, or the state "Nothing new".

    Raises:
        ConfigError: every problem of the configuration, before anything is started.
        JobFailed: with the last lines of the job.
        Regression: what fell, and from where to where.
    """
    logger = get_run_logger()
    checked = load(EvaluateConfig, config, overrides)
    if address or cluster_in_environment():
        checked = with_absolute_paths(checked)
    if only_new:
        from ray_jobs.evaluate_history import known_encoders

        names = known_encoders(checked)
        if names is not None:
            said = f"nothing new: {', '.join(names) or 'no encoder'} evaluated before"
            logger.info(said)
            return Completed(name="Nothing new", message=said)
    output = Storage(checked.output)
    run_job_of_flow(JOB, resolved_yaml(checked), output.uri, address or None, SHARES)

    if not output.exists("summary.json"):
        raise FileNotFoundError(
            f"the job is done, but {output.locate('summary.json')} cannot be seen from here: with a cluster of other "
            "machines `output` must be on storage that all share, or a URI such as s3://bucket/name"
        )
    summary = output.read_json("summary.json")
    _publish(summary, output)
    findings = summary["findings"]
    for finding in findings:
        log = {"fail": logger.error, "warn": logger.warning}.get(finding["level"], logger.info)
        log("%s", finding["text"])
    worse = [finding["text"] for finding in findings if finding["level"] == "fail"]
    if worse and on_regression == "fail":
        raise Regression("\n".join(worse))
    means = {
        method: {column: cell["mean"] for column, cell in columns.items()}
        for method, columns in summary["overall"].items()
    }
    return {"output": output.uri, "summary": means, "findings": findings}


@evaluate.on_cancellation
def stop_job(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    stop_jobs(JOB, flow, flow_run)


def _publish(summary: dict[str, Any], output: Storage) -> None:
    """Three artifacts; equal keys make them a history in Prefect."""
    create_markdown_artifact(
        output.read_bytes("report/report.md").decode(), key="evaluate-report", description=f"Scores of {output.uri}"
    )
    create_link_artifact(
        report_link(output),
        link_text="Report",
        key="evaluate-page",
        description=output.locate("report/index.html"),
    )
    if summary["findings"]:
        create_table_artifact(summary["findings"], key="evaluate-findings", description="Against earlier runs")
