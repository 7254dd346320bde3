"""Does a distillation of full size run here, how long, in how much memory? `python -m adaface.distill.benchmarks.dry_run`

Random weights at the sizes of Stable Diffusion 1.5, Arc2Face and their CLIPs, two optimizer steps of each kind of batch, by
the trainer itself. What comes out means nothing, but for the numbers being finite.
"""

from __future__ import annotations

import argparse
import gc
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from adaface.distill.benchmarks.clock import stopwatch
from adaface.distill.benchmarks.networks import FullSizes, Networks, random_networks
from adaface.distill.benchmarks.workload import EVERYTHING_TEACHES, KINDS, only, random_samples
from adaface.distill.contexts import checkpoint_gradients
from adaface.distill.speed import memory_gb
from adaface.distill.stage import original_stage
from adaface.distill.trainer import Trainer
from adaface.full_size import free_memory

_STAGE2 = ("reconstruction", "compositional")


@dataclass(frozen=True)
class Ran:
    """Optimizer steps of one kind: their `seconds` (see clock.py), their losses, the most memory until then, GB."""

    kind: str
    seconds: tuple[float, ...]
    losses: tuple[float, ...]
    memory: float

    def __str__(self) -> str:
        each = " and ".join(f"{seconds:.1f} s" for seconds in self.seconds)
        losses = " and ".join(f"{loss:.4f}" for loss in self.losses)
        return f"{self.kind}: {each}, loss {losses}, {self.memory:.1f} GB at most so far"


def run(
    networks: Networks,
    *,
    kinds: Sequence[str] = tuple(KINDS),
    batch: int = 1,
    steps: int = 2,
    rollouts: tuple[int, ...] = (1,),
    say: Callable[[Ran], None] = lambda _: None,
) -> list[Ran]:
    """Steps of each kind, from the same encoder on.

    Raises:
        FloatingPointError: a loss or a gradient is not finite.
    """
    samples = random_samples(networks.models, networks.encoder, batch)
    found = []
    for kind in kinds:
        stage = original_stage(2 if kind.startswith(_STAGE2) else 1, batch=batch, accumulate=1)
        stage = only(kind, stage, rollouts=rollouts, rollout_shares=(1.0,) * len(rollouts))
        stage = replace(stage, filter=EVERYTHING_TEACHES)
        trainer = Trainer(networks.task(stage), lambda: samples, count=batch)
        seconds: list[float] = []
        losses: list[float] = []
        for _ in range(steps):
            with stopwatch(networks.models.device) as took:
                report = trainer.step()
            seconds += took
            losses.append(report.loss)
            if report.skipped or not math.isfinite(report.loss):
                raise FloatingPointError(f"{kind}: loss {report.loss}, gradient {report.norm}")
        found.append(Ran(kind, tuple(seconds), tuple(losses), memory_gb(networks.models.device)))
        say(found[-1])
        del trainer
        gc.collect()  # an optimizer's state has four times the encoder's size
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m adaface.distill.benchmarks.dry_run")
    parser.add_argument(
        "--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND", help="(default: all)"
    )
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--checkpoint-gradients", action="store_true", help="less memory, more time")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    needed, free = 12e9, free_memory()
    if chosen.device == "cpu" and free is not None and free < needed:
        print(f"{free / 1e9:.1f} GB of memory are free and this takes up to {needed / 1e9:.0f}", file=sys.stderr)
        return 2
    began = time.perf_counter()
    networks = random_networks(FullSizes(), chosen.precision, chosen.device)
    if chosen.checkpoint_gradients:
        checkpoint_gradients(networks.models.unet)
    print(f"networks: {time.perf_counter() - began:.1f} s, {memory_gb(networks.models.device):.1f} GB", flush=True)
    run(networks, kinds=chosen.kinds, batch=chosen.batch, steps=chosen.steps, say=lambda one: print(one, flush=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
