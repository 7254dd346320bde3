"""Optimizer steps of a stage against their floor, in turns, in one run."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

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
    """One optimizer step: its `seconds`, those of its `floor` and of its `unets` alone, of every repeat; UNets' `flops`."""

    kinds: tuple[str, ...]
    seconds: tuple[float, ...]
    floor: tuple[float, ...]
    unets: tuple[float, ...]
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
    """Each of these steps of the stage's plan, once to warm up and then `repeats` times, in turns with its floors.

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
        least: list[float] = []
        unets = calls.of_unets(networks)
        for _ in range(repeats):
            trainer.number = number
            with stopwatch(device) as took:
                trainer.step()
            mine += took
            trainer.optimizer.zero_grad(set_to_none=True)
            with stopwatch(device) as took:
                calls.again(networks)
            bare += took
            with stopwatch(device) as took:
                unets.again(networks)
            least += took
        passes = passes_of(stage, report.numbers, filters=networks.clip is not None)
        operations = sum(
            flops.of_batch(batch, len(task.plan.rows(batch, 0, count)), **passes)
            for batch in task.plan.step(number).batches
        )
        found.append(Measured(report.kinds, tuple(mine), tuple(bare), tuple(least), operations))
        say(found[-1])
    return found


def total(found: Sequence[Measured], what: Literal["seconds", "floor", "unets"] = "seconds") -> float:
    """Seconds of all steps: the sum of each one's median over its repeats."""
    return sum(statistics.median(getattr(one, what)) for one in found)


def ratio(found: Sequence[Measured]) -> float:
    """Step to floor: all calls of all networks."""
    return total(found) / total(found, "floor")


def unet_ratio(found: Sequence[Measured]) -> float:
    """Step to the calls of teacher and student UNet alone: text, VAE, CLIP and encoder count as what comes on top."""
    return total(found) / total(found, "unets")
