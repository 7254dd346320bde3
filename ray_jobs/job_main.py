"""The command line that all jobs have: `python -m ray_jobs.NAME --config FILE [--set KEY=VALUE ...] [--address A]`."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from data_pipeline.lock import LockedError
from ray_jobs.config import JobConfig
from ray_jobs.config_file import load
from ray_jobs.runtime import log_to_stdout

log = logging.getLogger(__name__)

Config = TypeVar("Config", bound=JobConfig)


def job_parser(module: str, about: str, model: type[JobConfig]) -> argparse.ArgumentParser:
    """The options of every job; a job may add its own.

    Args:
        module: for example "ray_jobs.build_dataset".
        about: the job's docstring, of which the first line is shown.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=about.split("\n")[0])
    parser.add_argument("--config", required=True, help="YAML file, see configs/")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=f"{model.example}; repeatable")
    parser.add_argument(
        "--address", help="Ray cluster to join; default: the one this was submitted to, or a local one"
    )
    return parser


def run_job_main(
    options: argparse.Namespace,
    model: type[Config],
    run: Callable[..., Any],
    *,
    kept: str,
    overrides: Sequence[str] = (),
) -> int:
    """Load the configuration and run the job.

    Args:
        options: what `job_parser` has parsed.
        run: takes the configuration and `address`.
        kept: what a failure leaves, as the beginning of a sentence.
        overrides: after those of the command line.

    Returns:
        exit status: 0 done, 1 somebody else is at work there, 2 bad configuration or input. What else goes wrong is
        raised, for which Python's exit status is 1.
    """
    as_job_process()
    try:
        run(load(model, options.config, [*options.set, *overrides]), address=options.address)
    except LockedError as error:  # nothing is wrong with the input: a later try may succeed
        log.error("%s", error)
        return 1
    except (ValueError, FileNotFoundError) as error:
        log.error("%s", error)
        return 2
    except Exception:
        log.error("the job failed; %s kept, run the same command again to go on", kept)
        raise
    return 0


def as_job_process() -> None:
    """Log to standard output, and take SIGTERM for the way out of an exception: Ray is shut down, and progress.json
    says that the job has ended."""
    log_to_stdout()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
