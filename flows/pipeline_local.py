"""A pipeline without Prefect: one step after the other, in this process or as jobs of a Ray cluster."""

from __future__ import annotations

import importlib
import logging
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from flows.pipeline_preflight import refuse_what_is_missing
from flows.pipeline_steps import Step, draw_album, step_names, steps
from flows.submission import CONFIG_NAME, attempt_id, cluster_in_environment, connect, run_job
from ray_jobs.config import DatasetConfig, JobConfig
from ray_jobs.config_file import resolved_yaml
from ray_jobs.pipeline_config import AlbumConfig
from ray_jobs.progress import duration
from ray_jobs.runtime import ray_session

log = logging.getLogger(__name__)


def run_pipeline(config: DatasetConfig, address: str | None = None) -> list[Step]:
    """Every step that is not done, and then all of them; `done` says which were skipped.

    Args:
        config: of `load_pipeline`.
        address: dashboard of a Ray cluster; None: that of RAY_ADDRESS, else a local Ray for all steps together.

    Raises:
        ConfigError: models are missing that a later step needs, before the first one.
        ValueError, RuntimeError: what the step's job raised; the same call goes on there.
    """
    assert config.pipeline is not None
    names = step_names(config.pipeline)
    elsewhere = bool(address or cluster_in_environment())
    if not elsewhere:
        refuse_what_is_missing(config)
    results = []
    with ExitStack() as ray:
        for number, step in enumerate(steps(config, absolute=elsewhere), 1):
            head = f"step {number} of {len(names)}, {step.name}"
            log.info("%s: %s %s", head, "done before," if step.done else "makes", step.output)
            if not step.done:
                began = time.monotonic()
                _run(step, address, None if elsewhere else ray)
                log.info("%s: done in %s", head, duration(time.monotonic() - began))
            results.append(step)
    return results


def _run(step: Step, address: str | None, ray: ExitStack | None) -> None:
    """`ray` holds a local Ray for all steps, as it takes seconds to start: jobs find it running and use it."""
    if isinstance(step.config, AlbumConfig):
        draw_album(step.config)
    elif ray is None:
        submit_step(step, step.config, address)
    else:
        ray.enter_context(ray_session(None, dashboard=True))  # does nothing where it is running
        job: Any = importlib.import_module(f"ray_jobs.{step.job.replace('-', '_')}")
        job.run(step.config)


def submit_step(step: Step, config: JobConfig, address: str | None) -> None:
    """Send the step's job to the cluster, print its lines, and return when it has succeeded; see `run_job`."""
    with tempfile.TemporaryDirectory(prefix="adaface-pipeline-") as folder:
        file = Path(folder) / CONFIG_NAME
        file.write_text(resolved_yaml(config), encoding="utf-8")
        run_job(
            f"ray_jobs.{step.job.replace('-', '_')}",
            file,
            address=address,
            # a job that goes on although nobody follows it any more is followed, not started a second time
            submission_id=attempt_id(connect(address), f"pipeline-{step.name}-{step.job_key}", again=True),
            on_log=lambda line: print(line, flush=True),
        )
