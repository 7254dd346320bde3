"""The flow `evaluate`: find what is new, run the job, compare with the history, show the report.

Its deployment `evaluate/nightly` runs on a schedule over folders of checkpoints: nothing new, nothing to do; identity
or text alignment worse than before by more than the interval, and the run fails, as does every later one until there is
something new.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from prefect import flow, get_run_logger
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.states import Completed

from adaface.evaluation.history import Finding
from data_pipeline.storage import Storage
from flows.dataset_artifacts import report_link
from flows.job_files import read_result
from flows.job_task import run_job_of_flow, runs_elsewhere, stop_jobs
from flows.outcome import Regression
from flows.run_names import named_after
from ray_jobs.config_file import load, resolved_yaml
from ray_jobs.evaluate_config import EvaluateConfig, with_absolute_paths

JOB = "evaluate"
# Phases of the job and their rough share of its time, for the progress bar.
SHARES = {"faces": 0.05, "pictures": 0.9, "scores": 0.03, "report": 0.02}


@flow(name="evaluate", flow_run_name=named_after(EvaluateConfig, lambda config: config.output))
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
        only_new: end at once where every encoder of the configuration has been evaluated under this protocol before, as
            that run ended, or where there is no encoder yet.
        on_regression: what happens when an encoder's identity or text alignment fell by more than its interval.

    Returns:
        {"output": URI, "summary": overall means, "findings": [...]}, or the state "Nothing new" or "No encoder yet".

    Raises:
        ConfigError: every problem of the configuration, before anything is started.
        JobFailed: with the last lines of the job.
        Regression: what fell, and from where to where; with nothing new, what the last run failed with.
    """
    checked = load(EvaluateConfig, config, overrides)
    if runs_elsewhere(address):
        checked = with_absolute_paths(checked)
    if only_new:
        from ray_jobs.evaluate_news import news_of

        news = news_of(checked)
        if news.waiting:
            return _completed("No encoder yet", "; ".join(news.waiting))
        if news.known is not None:
            _judge(news.failures, on_regression)
            names = ", ".join(news.known) or "no encoder"
            return _completed("Nothing new", f"nothing new: {names} evaluated before")
    return evaluated(checked, address, on_regression)


def evaluated(
    config: EvaluateConfig, address: str | None, on_regression: Literal["fail", "warn"], label: str = JOB
) -> dict[str, Any]:
    """Run the job inside of a flow run and show what came out; see `evaluate` and `run_job_of_flow`."""
    output = Storage(config.output)
    run_job_of_flow(JOB, resolved_yaml(config), output.uri, address or None, SHARES, label)
    summary = read_result(output, "summary.json", "output")
    _publish(summary, output)
    _judge([Finding(**finding) for finding in summary["findings"]], on_regression)
    means = {
        method: {column: cell["mean"] for column, cell in columns.items()}
        for method, columns in summary["overall"].items()
    }
    return {"output": output.uri, "summary": means, "findings": summary["findings"]}


evaluate.on_cancellation(stop_jobs)


def _judge(findings: Sequence[Finding], on_regression: Literal["fail", "warn"]) -> None:
    """Log the findings. Raises Regression for those that fail, where that is asked for."""
    logger = get_run_logger()
    for finding in findings:
        log = {"fail": logger.error, "warn": logger.warning}.get(finding.level, logger.info)
        log("%s", finding.line)
    worse = [finding.line for finding in findings if finding.level == "fail"]
    if worse and on_regression == "fail":
        raise Regression("\n".join(worse))


def _completed(name: str, message: str) -> Any:
    get_run_logger().info("%s", message)
    return Completed(name=name, message=message)


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
