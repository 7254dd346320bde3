"""Optimizer steps of a stage against the bare calls of their networks, and against the original's way of the same steps.

    python -m adaface.distill.benchmarks --size miniature --stage 1
    python -m adaface.distill.benchmarks --stage 2 --config configs/distill-miniature.yaml
    python -m adaface.distill.benchmarks --size full --stage 1 --batch 1 --steps 2 --original

The plan is the original's, or that of a configuration. Steps are taken from its beginning, each once to warm up, then in
turns with its two floors: the calls of all its networks, and those of the UNets alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import torch

from adaface.distill.benchmarks.networks import FullSizes, Networks, miniature, random_networks
from adaface.distill.benchmarks.original_way import OriginalTask
from adaface.distill.benchmarks.steps import Measured, measure, ratio, total, unet_ratio
from adaface.distill.benchmarks.workload import everything_teaches, random_samples, with_batch
from adaface.distill.contexts import checkpoint_gradients
from adaface.distill.run_file import RunOfFile, read_run
from adaface.distill.speed import memory_gb, peak_flops
from adaface.distill.stage import original_stage
from adaface.models.device import chosen_device
from adaface.models.precision import Precision

_WORDS = {"miniature": "package://adaface.miniature/compositions.yaml", "full": None}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m adaface.distill.benchmarks", description=__doc__.split("\n")[0])
    parser.add_argument("--size", choices=("miniature", "full"), default="miniature")
    parser.add_argument("--stage", type=int, choices=(1, 2), default=1)
    parser.add_argument("--config", metavar="FILE", help="a configuration of `distill` in the place of the original's")
    parser.add_argument("--batch", type=int, help="samples of a batch (default: 4, or what the configuration has)")
    parser.add_argument("--accumulate", type=int, help="batches of a step (default: 1, or what the configuration has)")
    parser.add_argument("--steps", type=int, default=12, help="optimizer steps of the plan (default: 12)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--precision", choices=get_args(Precision), help="(default: bf16, or what the configuration has)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (default: the GPU where there is one)")
    parser.add_argument("--threads", type=int, default=1, help="of a CPU (default: 1)")
    parser.add_argument("--compile", action="store_true", help="torch.compile for the student's UNet")
    parser.add_argument("--checkpoint-gradients", action="store_true")
    parser.add_argument("--original", action="store_true", help="also the original's way of the same steps (stage 1)")
    chosen = parser.parse_args(arguments)
    if chosen.original and chosen.stage == 2:
        parser.error("--original is for stage 1: compositional steps have contexts of their own")
    try:
        chosen.device = chosen_device(chosen.device, "--device")
        run = _run(chosen)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    torch.set_num_threads(chosen.threads)
    networks = _networks(chosen, run)
    stage, batch = run.stage, run.stage.plan.batch
    samples = random_samples(networks.models, networks.encoder, batch)
    steps = range(chosen.steps)
    found = measure(networks, stage, samples, steps=steps, repeats=chosen.repeats, say=_say)
    _summary(networks, found, batch * stage.plan.accumulate)
    if chosen.original:
        task = OriginalTask(networks, stage)
        theirs = measure(networks, stage, samples, steps=steps, repeats=chosen.repeats, task=task, say=_say)
        _summary(networks, theirs, batch * stage.plan.accumulate)
        print(f"original's way: {total(theirs) / total(found):.2f} times as long")
    return 0


def _run(chosen: argparse.Namespace) -> RunOfFile:
    """What is measured: of the configuration, or the original's with all of its networks."""
    if chosen.config is not None:
        run = read_run(chosen.config, chosen.stage)
        stage = with_batch(run.stage, batch=chosen.batch, accumulate=chosen.accumulate)
    else:
        stage = with_batch(
            original_stage(chosen.stage, batch=4, accumulate=1), batch=chosen.batch, accumulate=chosen.accumulate
        )
        stage = replace(stage, compositions=_WORDS[chosen.size])
        multiplier = 1 if chosen.size == "miniature" else FullSizes().multiplier
        run = RunOfFile(stage, multiplier, filters=True, backgrounds=True, precision="bf16")
    return replace(run, stage=everything_teaches(stage), precision=chosen.precision or run.precision)


def _networks(chosen: argparse.Namespace, run: RunOfFile) -> Networks:
    if chosen.size == "miniature":
        networks = miniature(run.precision, chosen.device, multiplier=run.multiplier)
    else:
        networks = random_networks(FullSizes(multiplier=run.multiplier), run.precision, chosen.device)
    networks = networks.without(clip=not run.filters, background=not run.backgrounds)
    unet = networks.models.unet
    if chosen.checkpoint_gradients:
        checkpoint_gradients(unet)
    if chosen.compile:
        networks.models.compiled = torch.compile(unet)
    return networks


def _say(step: Measured) -> None:
    mine, floor, unets = (" ".join(f"{took:.3f}" for took in row) for row in (step.seconds, step.floor, step.unets))
    print(f"{'+'.join(step.kinds):16} step {mine}   floor {floor}   UNets alone {unets}", flush=True)


def _summary(networks: Networks, found: Sequence[Measured], samples: int) -> None:
    """A line for each kind of step, one for all of them; `samples` that a step takes."""
    for kinds in dict.fromkeys(step.kinds for step in found):
        these = [step for step in found if step.kinds == kinds]
        sums = f"step {total(these):.2f} s, floor {total(these, 'floor'):.2f}, UNets alone {total(these, 'unets'):.2f}"
        print(f"{'+'.join(kinds)} ({len(these)}): {sums}; {_ratios(these)}")
    device, seconds = networks.models.device, total(found)
    rate = sum(step.flops for step in found) / seconds
    peak = peak_flops(device)
    mfu = f", MFU {rate / peak:.0%}" if peak else ""
    print(
        f"{_ratios(found)}; {seconds / len(found):.3f} s a step, {samples * len(found) / seconds:.2f} samples/s, "
        f"{rate / 1e12:.3f} TFLOP/s{mfu}, {memory_gb(device):.1f} GB at most"
    )


def _ratios(found: Sequence[Measured]) -> str:
    return f"step / floor {ratio(found):.3f}, step / UNets alone {unet_ratio(found):.3f}"


if __name__ == "__main__":
    sys.exit(main())
