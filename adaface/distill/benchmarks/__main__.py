"""Optimizer steps of a stage against the bare calls of their networks, and against the original's way of the same steps.

    python -m adaface.distill.benchmarks --size miniature --stage 1
    python -m adaface.distill.benchmarks --size full --stage 1 --batch 1 --steps 2 --original

The plan is the original's. Steps are taken from its beginning, each once to warm up, then in turns with its floor.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace

import torch

from adaface.distill.benchmarks.networks import FullSizes, Networks, miniature, random_networks
from adaface.distill.benchmarks.original_way import OriginalTask
from adaface.distill.benchmarks.steps import Measured, measure, ratio
from adaface.distill.benchmarks.workload import EVERYTHING_TEACHES, random_samples
from adaface.distill.contexts import checkpoint_gradients
from adaface.distill.speed import memory_gb, peak_flops
from adaface.distill.stage import original_stage

_WORDS = {"miniature": "package://adaface.miniature/compositions.yaml", "full": None}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m adaface.distill.benchmarks", description=__doc__.split("\n")[0])
    parser.add_argument("--size", choices=("miniature", "full"), default="miniature")
    parser.add_argument("--stage", type=int, choices=(1, 2), default=1)
    parser.add_argument("--batch", type=int, default=4, help="samples of a batch (default: 4)")
    parser.add_argument("--steps", type=int, default=12, help="optimizer steps of the plan (default: 12)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="of a CPU (default: 1)")
    parser.add_argument("--compile", action="store_true", help="torch.compile for the student's UNet")
    parser.add_argument("--checkpoint-gradients", action="store_true")
    parser.add_argument("--original", action="store_true", help="also the original's way of the same steps (stage 1)")
    chosen = parser.parse_args(arguments)
    if chosen.original and chosen.stage == 2:
        parser.error("--original is for stage 1: compositional steps have contexts of their own")
    torch.set_num_threads(chosen.threads)
    stage = replace(
        original_stage(chosen.stage, batch=chosen.batch, accumulate=1),
        compositions=_WORDS[chosen.size],
        filter=EVERYTHING_TEACHES,
    )
    networks = _networks(chosen)
    samples = random_samples(networks.models, networks.encoder, chosen.batch)
    steps = range(chosen.steps)
    found = measure(networks, stage, samples, steps=steps, repeats=chosen.repeats, say=_say)
    _summary(networks, found, chosen.batch)
    if chosen.original:
        task = OriginalTask(networks, stage)
        theirs = measure(networks, stage, samples, steps=steps, repeats=chosen.repeats, task=task, say=_say)
        _summary(networks, theirs, chosen.batch)
        print(f"original's way: {_total(theirs) / _total(found):.2f} times as long")
    return 0


def _networks(chosen: argparse.Namespace) -> Networks:
    if chosen.size == "miniature":
        networks = miniature(chosen.precision, chosen.device)
    else:
        networks = random_networks(FullSizes(), chosen.precision, chosen.device)
    unet = networks.models.unet
    if chosen.checkpoint_gradients:
        checkpoint_gradients(unet)
    if chosen.compile:
        networks.models.compiled = torch.compile(unet)
    return networks


def _say(step: Measured) -> None:
    mine, floor = (" ".join(f"{seconds:.3f}" for seconds in row) for row in (step.seconds, step.floor))
    print(f"{'+'.join(step.kinds):16} step {mine}   floor {floor}", flush=True)


def _total(found: Sequence[Measured]) -> float:
    return sum(statistics.median(step.seconds) for step in found)


def _summary(networks: Networks, found: Sequence[Measured], batch: int) -> None:
    device, seconds = networks.models.device, _total(found)
    rate = sum(step.flops for step in found) / seconds
    peak = peak_flops(device)
    mfu = f", MFU {rate / peak:.0%}" if peak else ""
    print(
        f"step / floor {ratio(found):.3f}; {seconds / len(found):.3f} s a step, {batch * len(found) / seconds:.2f} samples/s, "
        f"{rate / 1e12:.3f} TFLOP/s{mfu}, {memory_gb(device):.1f} GB at most"
    )


if __name__ == "__main__":
    sys.exit(main())
