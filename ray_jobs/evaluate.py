"""Pictures of people by several methods, scored, compared and shown. `python -m ray_jobs.evaluate --config FILE`.

First everything that it reads is looked at, and nothing is written unless all of it is right. Then four phases, each
skipping what is done already: faces (ID embeddings of the subjects), pictures (drawn and measured at the same
time, part by part), scores (metrics and their summary), report. A run that was killed anywhere is continued by
running it again; no picture is drawn twice, and the scores are the same.
"""

from __future__ import annotations

import logging
import sys
import time
from datetime import UTC, datetime
from typing import Any

from adaface.evaluation.plan import plan_parts
from data_pipeline.lock import output_lock
from data_pipeline.storage import Storage
from ray_jobs import evaluate_scores
from ray_jobs.config import ClusterConfig
from ray_jobs.config_file import config_hash, resolved_yaml
from ray_jobs.evaluate_config import EvaluateConfig, with_absolute_paths
from ray_jobs.evaluate_digests import make_digests
from ray_jobs.evaluate_drawn import forget_all
from ray_jobs.evaluate_encoders import with_encoders_kept
from ray_jobs.evaluate_history import read_history
from ray_jobs.evaluate_input import Input, check_input, know_ids
from ray_jobs.evaluate_parts import Drawer, Job, Measurer
from ray_jobs.evaluate_todo import parts_to_do, subjects_to_do
from ray_jobs.job_main import job_parser, run_job_main
from ray_jobs.lost_output import refuse_lost_output
from ray_jobs.progress import Progress, duration
from ray_jobs.runtime import ray_session, run_stages
from ray_jobs.versions import versions

log = logging.getLogger(__name__)

SUMMARY = "summary.json"


def run(config: EvaluateConfig, *, address: str | None = None) -> dict[str, Any]:
    """Evaluate, or continue.

    Args:
        config: local paths are taken relative to the working directory.
        address: of a Ray cluster; None: the cluster this process was submitted to, or a local Ray.

    Returns:
        the content of summary.json.

    Raises:
        ConfigError: bad input, all problems at once, before anything is written.
    """
    refuse_lost_output("output", config.output, address)
    if config.history:
        refuse_lost_output("history", config.history, address)
    began = time.monotonic()
    placed = with_absolute_paths(config)  # workers run in other folders
    log.info("looking at photos, prompts and models")
    asked = check_input(placed)
    log.info("%d subjects, %d prompts", len(asked.subjects), len(asked.prompts))
    read_history(placed)  # what is wrong with its place is to be known before hours of drawing
    out = Storage(config.output)
    with output_lock(out):
        evaluation = Evaluation(config, asked, out, address)
        evaluation.seconds["input"] = round(time.monotonic() - began, 3)
        return evaluation.run()


class Evaluation:
    """One run."""

    def __init__(self, config: EvaluateConfig, asked: Input, out: Storage, address: str | None):
        self.given, self.asked, self.out, self.address = config, asked, out, address
        self.config = with_encoders_kept(with_absolute_paths(config), out)
        self.progress = Progress(out)
        self.seconds: dict[str, float] = {}
        self.drawn = 0
        self.started = datetime.now(UTC)

    def run(self) -> dict[str, Any]:
        for folder in ("", "drawn", "features", "ids", "references", "report", "runs"):
            self.out.sweep(folder)
        self.out.write_bytes("config.yaml", resolved_yaml(self.given).encode())
        try:
            with ray_session(self.address):
                summary = self._phases()
        except BaseException as error:
            self.progress.fail(str(error) or type(error).__name__)
            raise
        said = f"{summary['images']:,} pictures of {len(summary['methods'])} methods, {self.drawn:,} drawn now"
        self.progress.finish(said)
        log.info("done in %s: %s", duration(sum(self.seconds.values())), said)
        log.info("report: %s", self.out.locate("report/index.html"))
        return summary

    def plan(self) -> Job:
        """What all workers are told; embeds the faces in the subjects' photos, draws nothing."""
        subjects, prompts = self.asked.subjects, self.asked.prompts
        self.progress.start("faces", len(subjects), "subjects", "ID embeddings of the reference photos")
        digests = make_digests(self.config, subjects)
        return Job(
            config=self.config,
            subjects={subject.name: subject for subject in subjects},
            prompts={prompt.id: prompt for prompt in prompts},
            parts=tuple(plan_parts(self.config, subjects, prompts)),
            digests=digests,
            ids={
                each.name: know_ids(self.out, each, self.asked.faces, digests.subjects[each.name]) for each in subjects
            },
        )

    def _phases(self) -> dict[str, Any]:
        job = self._timed("faces", self.plan)
        self._timed("pictures", lambda: self._pictures(job))
        self.progress.start("scores", 1, "tables")
        summary = self._timed("scores", lambda: evaluate_scores.write_scores(job))
        self._write_run(job)
        self.progress.start("report", 1, "pages")
        about = {
            "config_hash": config_hash(self.given),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "started": self.started.isoformat(timespec="seconds"),
        }
        return self._timed("report", lambda: evaluate_scores.write_report(job, summary, about))

    def _timed(self, phase: str, action: Any) -> Any:
        began = time.monotonic()
        try:
            return action()
        finally:
            self.seconds[phase] = round(time.monotonic() - began, 3)

    def _pictures(self, job: Job) -> None:
        photos, todo = subjects_to_do(job, self.out), parts_to_do(job, self.out)
        images = sum(len(job.parts[number].pictures) for number in todo)
        images += sum(len(subject.photos) for subject in photos)
        every = sum(len(part.pictures) for part in job.parts)
        message = (
            f"{every:,} pictures in {len(job.parts):,} parts; {len(todo):,} parts and {len(photos):,} subjects to do"
        )
        self.progress.start("pictures", images, message=message)
        if todo or photos:
            run_stages(
                [
                    (Drawer, {"job": job}, self.machines(measuring=False)),
                    (Measurer, {"job": job}, self.machines(measuring=True)),
                ],
                # all rows of one shape; the photos first, which are there to be measured while the first part is drawn
                [
                    *({"part": -1, "subject": subject.name} for subject in photos),
                    *({"part": number, "subject": None} for number in todo),
                ],
                self._count,
            )
            self._require("pictures")
        forget_all(self.out)

    def _count(self, result: dict[str, Any]) -> None:
        self.drawn += result["drawn"]
        self.progress.advance(result["images"])

    def machines(self, *, measuring: bool) -> ClusterConfig:
        """Of the actors that draw, or of those that measure."""
        cluster = self.config.cluster
        if not measuring:
            return cluster
        return cluster.model_copy(
            update={"workers": cluster.measure_workers, "gpus_per_worker": cluster.gpus_per_measure_worker}
        )

    def _require(self, phase: str) -> None:
        if self.progress.done < self.progress.total:
            raise RuntimeError(
                f"{phase}: only {self.progress.done:,} of {self.progress.total:,} {self.progress.unit} were done, "
                "see the errors above. What is finished is kept: mend the cause and run the same command again"
            )

    def _write_run(self, job: Job) -> None:
        stamp = self.started.strftime("%Y%m%dT%H%M%S.%fZ")
        self.out.write_json(
            f"runs/{stamp}.json",
            {
                "started": self.started.isoformat(timespec="seconds"),
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds": self.seconds,
                "pictures": sum(len(part.pictures) for part in job.parts),
                "drawn": self.drawn,
                "models": job.digests.models,
                "versions": versions(),
            },
        )


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 failed, 2 bad configuration or input."""
    options = job_parser("ray_jobs.evaluate", str(__doc__), EvaluateConfig).parse_args(arguments)
    return run_job_main(options, EvaluateConfig, run, kept="what is finished is")


if __name__ == "__main__":
    sys.exit(main())
