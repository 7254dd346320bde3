"""Does a distillation of full size run here, how long, in how much memory? In the project's folder:

    python -m adaface.distill.benchmarks.dry_run --config configs/distill-sd15.yaml

Random weights at the sizes of Stable Diffusion 1.5, Arc2Face and their CLIPs; both stages as the configuration has them, two
optimizer steps of each kind of batch, by the trainer itself. What comes out means nothing, but for the numbers being finite.
"""

from __future__ import annotations

import argparse
import gc
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import torch

from adaface.distill.benchmarks.clock import stopwatch
from adaface.distill.benchmarks.networks import FullSizes, Networks, random_networks
from adaface.distill.benchmarks.workload import KINDS, everything_teaches, kinds_of, only, random_samples, with_batch
from adaface.distill.contexts import checkpoint_gradients
from adaface.distill.run_file import read_run
from adaface.distill.speed import memory_gb
from adaface.distill.stage import Stage
from adaface.distill.trainer import Trainer
from adaface.full_size import free_memory
from adaface.models.device import chosen_device
from adaface.models.precision import Precision

CONFIG = "configs/distill-sd15.yaml"
ROLLOUTS = (1, 3)  # every longer one does the same again
_NEEDED = {"distillation": 10e9, "compositional": 16e9}  # bytes; docs/benchmarks.md


@dataclass(frozen=True)
class Part:
    """Optimizer steps of one kind of batch: `stage` has no others."""

    number: int  # of the stage
    kind: str
    rollout: int | None  # steps of the teacher's; None where it is not asked
    stage: Stage

    def __str__(self) -> str:
        steps = f", rollout {self.rollout}" if self.rollout else ""
        return f"stage {self.number}, {self.kind}{steps}"


@dataclass(frozen=True)
class Ran:
    """What a part took: `seconds` (see clock.py) and losses of its optimizer steps, the most memory until then, GB."""

    part: Part
    seconds: tuple[float, ...]
    losses: tuple[float, ...]
    memory: float

    def __str__(self) -> str:
        each = " and ".join(f"{seconds:.1f} s" for seconds in self.seconds)
        losses = " and ".join(f"{loss:.4f}" for loss in self.losses)
        return f"{self.part}: {each}, loss {losses}, {self.memory:.1f} GB at most so far"


def parts_of(
    stages: Mapping[int, Stage], *, rollouts: Sequence[int] = ROLLOUTS, kinds: Sequence[str] = tuple(KINDS)
) -> list[Part]:
    """A part for each of these kinds that a plan has, in the first stage that has it.

    Where the teacher is asked there is one for each of its rollouts among these; if it has none of them, for its shortest.
    """
    parts: list[Part] = []
    for number, stage in stages.items():
        lengths = [length for length in stage.plan.rollouts if length in rollouts] or [min(stage.plan.rollouts)]
        done = {part.kind for part in parts}
        for kind in kinds_of(stage.plan):
            if kind not in kinds or kind in done:
                continue
            asked = kind in ("random_id", "noised_id", "clean_id, teacher's noise")
            for length in lengths if asked else lengths[:1]:
                alone = only(kind, stage, rollouts=(length,), rollout_shares=(1.0,))
                parts.append(Part(number, kind, length if asked else None, everything_teaches(alone)))
    return parts


def run(
    networks: Networks, parts: Sequence[Part], *, steps: int = 2, say: Callable[[Ran], None] = lambda _: None
) -> list[Ran]:
    """Optimizer steps of each part, all from the beginning of its plan on, with one encoder.

    Raises:
        FloatingPointError: a loss or a gradient is not finite.
    """
    found = []
    for part in parts:
        batch = part.stage.plan.batch
        samples = random_samples(networks.models, networks.encoder, batch)
        trainer = Trainer(networks.task(part.stage), lambda samples=samples: samples, count=batch)  # type: ignore[misc]
        seconds: list[float] = []
        losses: list[float] = []
        for _ in range(steps):
            with stopwatch(networks.models.device) as took:
                report = trainer.step()
            seconds += took
            losses.append(report.loss)
            if report.skipped or not math.isfinite(report.loss):
                raise FloatingPointError(f"{part}: loss {report.loss}, gradient {report.norm}")
        found.append(Ran(part, tuple(seconds), tuple(losses), memory_gb(networks.models.device)))
        say(found[-1])
        del trainer
        gc.collect()  # an optimizer's state has four times the encoder's size
    return found


def _without_background(stage: Stage) -> Stage:
    plan = replace(stage.plan, background_reconstruction=0.0, background_compositional=0.0)
    return replace(stage, plan=plan)


def main(arguments: Sequence[str] | None = None, sizes: FullSizes | None = None) -> int:
    """`sizes`: of the networks, in the place of the full ones; the configuration has their multiplier."""
    parser = argparse.ArgumentParser(prog="python -m adaface.distill.benchmarks.dry_run")
    parser.add_argument("--config", default=CONFIG, metavar="FILE", help=f"of `distill` (default: {CONFIG})")
    parser.add_argument("--stages", nargs="+", type=int, choices=(1, 2), default=[1, 2], metavar="STAGE")
    parser.add_argument(
        "--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND", help="(default: all of a stage)"
    )
    parser.add_argument(
        "--rollouts",
        nargs="+",
        type=int,
        default=list(ROLLOUTS),
        metavar="N",
        help="those that a stage has (default: 1 3)",
    )
    parser.add_argument("--batch", type=int, help="samples of a batch (default: the configuration's)")
    parser.add_argument("--accumulate", type=int, help="batches of a step (default: the configuration's)")
    parser.add_argument("--steps", type=int, default=2, help="optimizer steps of each kind (default: 2)")
    parser.add_argument("--precision", choices=get_args(Precision), help="(default: the configuration's)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (default: the GPU where there is one)")
    parser.add_argument("--checkpoint-gradients", action="store_true", help="less memory, more time")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = parser.parse_args(arguments)
    try:
        device = chosen_device(chosen.device, "--device")
        runs = {number: read_run(chosen.config, number) for number in chosen.stages}
        stages = {
            number: with_batch(run.stage, batch=chosen.batch, accumulate=chosen.accumulate)
            for number, run in runs.items()
        }
    except FileNotFoundError as error:
        parser.error(f"{error}; run this in the project's folder, or name one with --config")
    except ValueError as error:
        parser.error(str(error))
    first = next(iter(runs.values()))  # `models` is one section for both stages
    if not first.backgrounds:
        stages = {number: _without_background(stage) for number, stage in stages.items()}
    parts = parts_of(stages, rollouts=chosen.rollouts, kinds=chosen.kinds)
    if not parts:
        parser.error(f"the stages of {chosen.config} have no such batches")
    torch.set_num_threads(chosen.threads)
    composes = any(part.kind.startswith("compositional") for part in parts)
    needed, free = _NEEDED["compositional" if composes else "distillation"], free_memory()
    if sizes is None and device.type == "cpu" and free is not None and free < needed:
        print(f"{free / 1e9:.1f} GB of memory are free and this takes up to {needed / 1e9:.0f}", file=sys.stderr)
        return 2
    began = time.perf_counter()
    # one encoder for both stages, as the second goes on with that of the first one's last round
    sizes = replace(sizes or FullSizes(), multiplier=max(run.multiplier for run in runs.values()))
    networks = random_networks(sizes, chosen.precision or first.precision, device)
    networks = networks.without(clip=not first.filters, background=not first.backgrounds)
    if chosen.checkpoint_gradients:
        checkpoint_gradients(networks.models.unet)
    memory = memory_gb(networks.models.device)
    print(f"{Path(chosen.config).name}, keys and values per token: {sizes.multiplier}")
    print(f"networks: {time.perf_counter() - began:.1f} s, {memory:.1f} GB", flush=True)
    run(networks, parts, steps=chosen.steps, say=lambda one: print(one, flush=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
