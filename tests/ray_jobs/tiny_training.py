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
from data_pipeline.stream import TrainingStream
from ray_jobs.distill_config import DistillConfig
from ray_jobs.distill_worker import batches_of, build_trainer

RUN = "a run"
CLIP = "package://adaface.miniature/weights/clip"
Configs = Callable[..., DistillConfig]  # changes of `tests.tiny_distill.settings` -> a configuration


@contextmanager
def training(config: DistillConfig, rank: int = 0, world: int = 1) -> Iterator[tuple[Trainer, TrainingStream]]:
    """A worker before its first step."""
    trainer = build_trainer(config, torch.device("cpu"), rank, world)
    with TrainingStream(
        config.data, seed=config.run_config.seed, rank=rank, world_size=world, block=config.samples
    ) as stream:
        batches = batches_of(stream, config.samples, pin_memory=False)
        trainer.samples = lambda: next(batches)
        yield trainer, stream


def save(folder: Path, trainer: Trainer, stream: TrainingStream) -> Path:
    save_checkpoint(folder, trainer, data=stream.state(), run=RUN)
    return folder


def go_on(folder: Path, trainer: Trainer, stream: TrainingStream) -> None:
    stream.load_state(json.loads(json.dumps(load_checkpoint(folder, trainer, run=RUN))))


def what_was_done(report: StepReport) -> tuple[Any, ...]:
    """Everything of a step but how long it took."""
    return report.number, report.kinds, report.keys, report.loss, report.numbers, report.norm, report.rates


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.task.encoder.state_dict().items()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Bit by bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
