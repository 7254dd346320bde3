"""Optimizer steps of a stage against their floor, in turns, in one run."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from adaface.distill.benchmarks.clock import stopwatch
from adaface.distill.benchmarks.floor import written_down
from adaface.distill.benchmarks.networks import Networks
from adaface.distill.benchmarks.original_way import OriginalTask
from adaface.distill.speed import FlopCount, passes_of
from adaface.distill.stage import Stage
from adaface.distill.task import DistillTask
from adaface.distill.trainer import Trainer


@dataclass(frozen=True)
class Measured:
    """One optimizer step: `seconds` and those of its floor, of every repeat; `flops` of the UNets."""

    kinds: tuple[str, ...]
    seconds: tuple[float, ...]
    floor: tuple[float, ...]
    flops: float


def measure(
    networks: Networks,
    stage: Stage,
    samples: dict[str, Any],
    *,
    steps: Sequence[int],
    repeats: int,
    task: DistillTask | OriginalTask | None = None,
    say: Callable[[Measured], None] = lambda _: None,
) -> list[Measured]:
    """Each of these steps of the stage's plan, once to warm up and then `repeats` times, in turns with its floor.

    Args:
        samples: of `workload.random_samples`; every batch of a step gets the same ones, so that nobody waits for data.
        task: in the place of the product's, for comparison.
    """
    task = task or networks.task(stage)
    count = len(samples["key"])
    trainer = Trainer(task, lambda: samples, count=count)  # type: ignore[arg-type]  # all that it asks of one
    flops = FlopCount(networks.models)
    device = networks.models.device
    found = []
    for number in steps:
        trainer.number = number
        with written_down(networks) as calls:
            report = trainer.step()
        mine: list[float] = []
        bare: list[float] = []
        for _ in range(repeats):
            trainer.number = number
            with stopwatch(device) as took:
                trainer.step()
            mine += took
            trainer.optimizer.zero_grad(set_to_none=True)
            with stopwatch(device) as took:
                calls.again(networks)
            bare += took
        passes = passes_of(stage, report.numbers, filters=networks.clip is not None)
        operations = sum(
            flops.of_batch(batch, len(task.plan.rows(batch, 0, count)), **passes)
            for batch in task.plan.step(number).batches
        )
        found.append(Measured(report.kinds, tuple(mine), tuple(bare), operations))
        say(found[-1])
    return found


def ratio(found: Sequence[Measured]) -> float:
    """Step to floor: the sum over all steps of the median, repeat by repeat, of what they took."""
    mine = sum(statistics.median(one.seconds) for one in found)
    return mine / sum(statistics.median(one.floor) for one in found)
