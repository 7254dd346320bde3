"""Trainings of the tiny networks as a worker makes them, without Ray."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from adaface.distill.checkpoint import load_checkpoint, save_checkpoint
from adaface.distill.trainer import StepReport, Trainer
from adaface.distill.weights import FAMILIES
from data_pipeline.batches import Batches
from data_pipeline.stream import TrainingStream
from ray_jobs.distill_config import DistillConfig
from ray_jobs.distill_worker import build_trainer

RUN = "a run"
CLIP = "package://adaface.miniature/weights/clip"
# A teacher filter that chooses among starts and turns none down: the networks' pictures are noise, of which none would pass
ACCEPTS_ALL = {"min_similarity": -1.0, "min_advantage": -2.0}
# All terms count enough to be seen in the gradients beside the others; by default some are ten thousand times smaller.
LOSSES = {
    **dict.fromkeys(FAMILIES["elastic_matching"], 0.1),
    **dict.fromkeys(FAMILIES["deltas"], 0.1),
    **dict.fromkeys(FAMILIES["attention_regions"], 0.1),
    **dict.fromkeys(FAMILIES["cross_layer"], 0.1),
    "prompt_delta": 0.1,
}
PRODIGY = {"name": "prodigy", "rate": None, "first_d": 1e-3}  # whose first steps move something
Configs = Callable[..., DistillConfig]  # changes of `tests.tiny_distill.settings` -> a configuration


@contextmanager
def training(config: DistillConfig, rank: int = 0, world: int = 1) -> Iterator[tuple[Trainer, Batches]]:
    """A worker before its first step."""
    trainer = build_trainer(config, torch.device("cpu"), rank, world)
    with (
        TrainingStream(
            config.data, seed=config.run_config.seed, rank=rank, world_size=world, block=config.samples
        ) as stream,
        Batches(stream, config.samples) as batches,
    ):
        trainer.samples = lambda: next(batches)
        yield trainer, batches


def save(folder: Path, trainer: Trainer, batches: Batches) -> Path:
    save_checkpoint(folder, trainer, data=batches.state(), run=RUN)
    return folder


def go_on(folder: Path, trainer: Trainer, batches: Batches) -> None:
    batches.load_state(json.loads(json.dumps(load_checkpoint(folder, trainer, run=RUN))))


def what_was_done(report: StepReport) -> tuple[Any, ...]:
    """Everything of a step but how long it took."""
    return report.number, report.kinds, report.keys, report.loss, report.numbers, report.norm, report.rates


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.task.encoder.state_dict().items()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Bit by bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
