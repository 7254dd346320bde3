"""Optimizer steps, one after the other: gradients of the planned batches, their mean, a clipped step.

Nothing here knows of a cluster: a worker of several gives its rank and wraps the task, and all of them call `step`.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from adaface.distill.optimizer import build_optimizer, clip_gradients, rates, set_rate
from adaface.distill.schedule import rate_factor
from adaface.distill.task import DistillTask

MOST_SKIPPED = 20  # steps in a row without a finite gradient


@dataclass(frozen=True)
class StepReport:
    """Of one optimizer step.

    Attributes:
        number: counted from 0.
        kinds: of its batches.
        loss: this worker's mean over its batches.
        numbers: of the losses, for the log, each a mean over the batches that have it.
        norm: of the gradients before they were clipped.
        skipped: whether they were not finite and the weights stayed as they are.
        rates: of the optimizer.
        keys: of the samples of this worker, batch by batch.
        seconds: of the step, without the wait for data; `waited` is that.
        samples: that were taken from the data.
    """

    number: int
    kinds: tuple[str, ...]
    loss: float
    numbers: dict[str, float]
    norm: float
    skipped: bool
    rates: dict[str, float]
    keys: tuple[tuple[str, ...], ...]
    seconds: float
    waited: float
    samples: int


class Trainer:
    """Makes the steps of a run.

    Args:
        task: on its device.
        samples: gives the next batch of this worker, `count` samples; may be set later.
        count: samples of a worker's batch: whole groups of the plan's.
        rank: of this worker.
        wrap: puts the task into what averages gradients over workers, e.g. DistributedDataParallel.

    Attributes:
        number: of the next step.
        optimizer: of the encoder's parameters.
        skipped: steps without a finite gradient so far.
    """

    def __init__(
        self,
        task: DistillTask,
        samples: Callable[[], Mapping[str, Any]] | None = None,
        *,
        count: int,
        rank: int = 0,
        wrap: Callable[[DistillTask], nn.Module] = lambda task: task,
    ) -> None:
        self.task, self.samples, self.count, self.rank = task, samples, count, rank
        self.module = wrap(task)
        self.parameters = [p for p in task.encoder.trainable_parameters() if p.requires_grad]
        self.optimizer = build_optimizer(self.parameters, task.stage.optimizer)
        self.number = 0
        self.skipped = 0
        self._skipped_in_a_row = 0

    @property
    def finished(self) -> bool:
        return self.number >= self.task.stage.plan.steps

    def step(self) -> StepReport:
        """The next optimizer step.

        Raises:
            FloatingPointError: when many steps in a row have no finite gradient.
        """
        if self.samples is None:
            raise ValueError("the trainer has no samples; set `samples` to what gives the next batch")
        began, waited = time.perf_counter(), 0.0
        plan = self.task.plan.step(self.number)
        losses: list[Tensor] = []
        numbers: dict[str, list[Tensor]] = {}
        keys = []
        self.optimizer.zero_grad(set_to_none=True)
        for place, batch in enumerate(plan.batches):
            asked = time.perf_counter()
            samples = self.samples()
            waited += time.perf_counter() - asked
            last = place == len(plan.batches) - 1
            with contextlib.nullcontext() if last else self._without_exchange():
                loss, said = self.module(batch, samples, self.rank * self.count)
                (loss / len(plan.batches)).backward()
            losses.append(loss.detach())
            keys.append(tuple(samples["key"]))
            for name, value in said.items():
                numbers.setdefault(name, []).append(value)
        settings = self.task.stage.optimizer
        norm = clip_gradients(self.parameters, settings.clip)
        factor = rate_factor(self.number, self.task.stage.plan.steps, self.task.stage.schedule)
        set_rate(self.optimizer, settings.first_rate * factor)
        finite = math.isfinite(norm)
        if finite:
            self.optimizer.step()
        self._count_skipped(finite)
        report = StepReport(
            number=self.number,
            kinds=tuple(batch.kind for batch in plan.batches),
            loss=float(torch.stack(losses).mean()),
            numbers=_means(numbers),
            norm=norm,
            skipped=not finite,
            rates=rates(self.optimizer),
            keys=tuple(keys),
            seconds=time.perf_counter() - began - waited,
            waited=waited,
            samples=self.count * len(plan.batches),
        )
        self.number += 1
        return report

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs besides the encoder; tensors are those of the optimizer, not copies."""
        return {
            "number": self.number,
            "skipped": self.skipped,
            "skipped_in_a_row": self._skipped_in_a_row,
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken; the encoder has its weights already."""
        self.number, self.skipped = state["number"], state["skipped"]
        self._skipped_in_a_row = state["skipped_in_a_row"]
        self.optimizer.load_state_dict(state["optimizer"])

    def _without_exchange(self) -> contextlib.AbstractContextManager[None]:
        """Gradients of all but the last batch stay with the worker until that."""
        no_sync = getattr(self.module, "no_sync", None)
        return contextlib.nullcontext() if no_sync is None else no_sync()

    def _count_skipped(self, finite: bool) -> None:
        if finite:
            self._skipped_in_a_row = 0
            return
        self.skipped += 1
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row >= MOST_SKIPPED:
            raise FloatingPointError(
                f"{MOST_SKIPPED} steps in a row, up to step {self.number}, had losses or gradients that are not finite; "
                "begin another run, from the encoder of an earlier checkpoint, with a lower learning rate or in float32"
            )


def _means(numbers: Mapping[str, list[Tensor]]) -> dict[str, float]:
    """Read from the device all at once."""
    if not numbers:
        return {}
    means = torch.stack([torch.stack(values).float().mean() for values in numbers.values()])
    return dict(zip(numbers, means.tolist(), strict=True))
