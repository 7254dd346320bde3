"""What a run says of itself: a row for each step, curves, pictures, progress. Rows are kept with the checkpoints, so
that what a crash takes away is made again, and nothing is there twice."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from adaface.distill.panel import Panel, draw_panel
from adaface.distill.speed import FlopCount, memory_gb, passes_of, peak_flops
from adaface.distill.trainer import StepReport, Trainer
from data_pipeline.storage import Storage
from ray_jobs.distill_config import DistillConfig
from ray_jobs.kept_encoder import keep_encoder
from ray_jobs.progress import Progress
from ray_jobs.trackers import Trackers

log = logging.getLogger(__name__)

_ROWS = re.compile(r"log/steps-(\d+)-rank\d+\.jsonl")


class RunLog:
    """Of one worker; all of them write rows, rank 0 everything else. Samples per second are those of all workers,
    TFLOP/s, MFU and memory of one.

    OUTPUT/NAME/log/steps-00000500-rank0.jsonl     the rows up to that checkpoint
    OUTPUT/NAME/panels/step-00000500.png
    OUTPUT/NAME/milestones/step-00000500/          an encoder
    OUTPUT/NAME/tensorboard/, progress.json
    """

    def __init__(
        self,
        config: DistillConfig,
        out: Storage,
        trainer: Trainer,
        rank: int,
        world: int,
        panel: Panel | None,
        skipped_samples: Mapping[str, int],
    ):
        self.config, self.out, self.trainer, self.rank, self.world, self.panel = (
            config,
            out,
            trainer,
            rank,
            world,
            panel,
        )
        self._skipped = sum(skipped_samples.values())  # before the first step of this start
        self._rows: list[dict[str, Any]] = []
        self._flops = FlopCount(trainer.task.models)
        self._peak = peak_flops(trainer.task.models.device)
        self._trackers = Trackers(config, out, trainer.number + 1) if rank == 0 else None
        self._progress = Progress(out) if rank == 0 else None
        if self._progress is not None:
            self._forget_what_is_made_again()
            steps = trainer.task.stage.plan.steps
            message = f"{steps:,} steps, {trainer.number:,} done"
            self._progress.start(f"stage{config.stage}", steps, "steps", message, done=trainer.number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._trackers is not None:
            self._trackers.close()
        if self._progress is not None and error is None:
            self._progress.finish(f"{self.trainer.number:,} steps")

    def step(self, report: StepReport, skipped_samples: Mapping[str, int]) -> None:
        """After each step, on every worker.

        Args:
            skipped_samples: of this worker's stream, counted since it began.
        """
        row = self._row(report, skipped_samples)
        self._rows.append(row)
        if self._trackers is None or self._progress is None:
            return
        self._progress.advance(1)
        number, settings = self.trainer.number, self.config.log
        if number % settings.log_every == 0 or self.trainer.finished:
            self._trackers.scalars(number, row)
            log.info("%s", _line(row, self.trainer.task.stage.plan.steps))
        every = settings.panel_every
        if self.panel is not None and every and (number % every == 0 or self.trainer.finished):
            picture = draw_panel(self.trainer.task, self.panel, number)
            self.out.write_bytes(f"panels/step-{number:08d}.png", picture)
            self._trackers.picture(number, "panel", picture)

    def checkpoint(self, folder: Path | None) -> None:
        """At each checkpoint, on every worker; `folder` has the encoder, on rank 0."""
        number = self.trainer.number
        text = "".join(json.dumps(row) + "\n" for row in self._rows)
        self.out.write_bytes(f"log/steps-{number:08d}-rank{self.rank}.jsonl", text.encode())
        self._rows.clear()
        every = self.config.log.milestone_every
        if folder is not None and every and number % every == 0:
            keep_encoder(folder / "encoder", self.out, f"milestones/step-{number:08d}")

    def _forget_what_is_made_again(self) -> None:
        """Rows of a checkpoint that was never stored, of workers that there may be no more."""
        for name in self.out.list("log"):
            found = _ROWS.fullmatch(name)
            if found and int(found[1]) > self.trainer.number:
                self.out.delete(name)

    def _row(self, report: StepReport, skipped_samples: Mapping[str, int]) -> dict[str, Any]:
        plan, stage = self.trainer.task.plan, self.trainer.task.stage
        passes = passes_of(stage, report.numbers, filters=self.config.models.clip is not None)
        count, flops, computed = self.trainer.count, 0.0, 0
        for batch in plan.step(report.number).batches:
            rows = plan.rows(batch, self.rank * count, count)
            computed += len(plan.rows(batch, 0, self.world * count))
            flops += self._flops.of_batch(batch, len(rows), **passes)
        whole = report.seconds + report.waited
        row = {
            "step": report.number + 1,
            "kinds": list(report.kinds),
            "loss": report.loss,
            **report.numbers,
            "norm": report.norm,
            "skipped": report.skipped,
            **report.rates,
            "keys": hashlib.sha256(json.dumps(report.keys).encode()).hexdigest()[:16],
            "seconds": whole,
            "wait_share": report.waited / whole,
            # of all workers, which take their steps together
            "samples_per_s": self.world * report.samples / whole,
            "computed_per_s": computed / whole,  # long rollouts and compositions leave samples of a batch out
            "tflops": flops / whole / 1e12,  # this and what follows: of this worker
            "memory_gb": memory_gb(self.trainer.task.models.device),
        }
        if self._peak is not None:
            row["mfu"] = flops / whole / self._peak
        skipped = sum(skipped_samples.values())
        if skipped > self._skipped:
            row["skipped_samples"] = skipped - self._skipped
        self._skipped = skipped
        return row


def _line(row: Mapping[str, Any], steps: int) -> str:
    rate = f"{row['samples_per_s']:.1f} samples/s ({row['computed_per_s']:.1f} computed)"
    speed = f"{rate}, {row['wait_share']:.0%} waiting, {row['tflops']:.2f} TFLOP/s"
    mfu = f", MFU {row['mfu']:.0%}" if "mfu" in row else ""
    d = f" d {row['d']:.2e}" if "d" in row else ""
    return (
        f"step {row['step']:,} of {steps:,} {'+'.join(row['kinds'])}: loss {row['loss']:.5f}, norm {row['norm']:.3f}, "
        f"rate {row['effective_rate']:.2e}{d}, {speed}{mfu}, {row['memory_gb']:.1f} GB"
    )
