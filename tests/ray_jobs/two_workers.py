"""One optimizer step of several configurations, by two processes that exchange their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed

from ray_jobs.distill_config import DistillConfig
from tests.ray_jobs.tiny_training import training

Results = list[dict[str, Any]]


def one_step_each(configs: Sequence[DistillConfig], rank: int = 0, world: int = 1) -> Results:
    """Kinds, keys and loss of the first step of each, the encoder's weights before and after, and its gradients."""
    done = []
    for config in configs:
        with training(config, rank, world) as (trainer, _):
            parameters = dict(trainer.task.encoder.named_parameters())
            before = {name: tensor.detach().clone() for name, tensor in parameters.items()}
            report = trainer.step()
            done.append(
                {
                    "kinds": report.kinds,
                    "keys": report.keys,
                    "loss": report.loss,
                    "numbers": report.numbers,
                    "norm": report.norm,
                    "moved": {name: tensor.detach() - before[name] for name, tensor in parameters.items()},
                    "gradients": {name: p.grad for name, p in parameters.items() if p.grad is not None},
                }
            )
    return done


def worker(rank: int, world: int, folder: Path, configs: Sequence[dict[str, Any]]) -> None:
    """In a process of its own: leaves FOLDER/RANK.pt."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    try:
        done = one_step_each([DistillConfig.model_validate(values) for values in configs], rank, world)
        torch.save(done, folder / f"{rank}.pt")
    finally:
        torch.distributed.destroy_process_group()


def by_two(folder: Path, configs: Sequence[dict[str, Any]]) -> list[Results]:
    """What each of two workers did."""
    torch.multiprocessing.spawn(worker, (2, folder, configs), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]
