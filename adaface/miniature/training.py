"""The loop that every recipe runs: seeded, logged, resumable, on a CPU or a GPU, in one process or several.

All chance comes from (seed, step, rank), so a run that was stopped and resumed computes what an undisturbed one does.
Several processes are started by torchrun; each takes its share of the batch and the gradients are averaged.
"""

from __future__ import annotations

import json
import os
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

CHECKPOINT_EVERY_S = 120.0
LOG_EVERY = 50  # steps


@dataclass(frozen=True)
class Schedule:
    """The learning rate rises over `warmup` steps, stays, and falls to zero over the last `decay` share of the steps.

    A run can therefore be given more steps later: everything before the fall is the same.
    """

    steps: int
    batch: int
    lr: float
    warmup: int = 100
    decay: float = 0.3
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    ema: float = 0.998
    clip: float = 1.0  # largest norm of the gradient

    def lr_at(self, step: int) -> float:
        rise = min(1.0, (step + 1) / self.warmup)
        fall = min(1.0, (self.steps - step) / max(1.0, self.decay * self.steps))
        return self.lr * rise * fall


class Task(ABC):
    """What is learned. `modules` are trained and averaged; everything else a task holds is frozen."""

    name: str
    schedule: Schedule
    modules: dict[str, nn.Module]

    def lr_scale(self, module: str) -> float:
        """Factor on the learning rate of one of the modules."""
        return 1.0

    @abstractmethod
    def loss(
        self, batch: int, rng: np.random.Generator, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        """Loss of one step on `batch` examples and further numbers for the log. `generator` is on the CPU."""

    @abstractmethod
    def load(self, folder: Path) -> None:
        """Put what `export` wrote below `folder` into the modules. Raises FileNotFoundError where it is not there."""

    @abstractmethod
    def evaluate(self) -> dict[str, float]:
        """Measures on held-out data, with the modules in eval mode and their averaged weights."""

    @abstractmethod
    def export(self, folder: Path) -> None:
        """Write the averaged weights in the format their users load, below `folder`."""


class Trainer:
    """Runs a task to the end of its schedule, from the last checkpoint in `folder` where there is one."""

    def __init__(self, task: Task, folder: Path, *, seed: int, device: torch.device):
        self.task, self.folder, self.seed, self.device = task, folder, seed, device
        self.rank, self.workers = _join_workers(device)
        self.step, self.seconds = 0, 0.0
        groups: list[dict] = [
            {"params": list(module.parameters()), "scale": task.lr_scale(name)}
            for name, module in task.modules.items()
        ]
        self._parameters = [parameter for group in groups for parameter in group["params"]]
        schedule = task.schedule
        self._optimizer = torch.optim.AdamW(
            groups, schedule.lr, betas=schedule.betas, weight_decay=schedule.weight_decay, fused=True
        )
        self._average = {name: _copy(module) for name, module in task.modules.items()}
        self._restore()

    def run(self, until: int | None = None) -> None:
        """Train until the schedule ends, or until `until` steps are done, and leave a checkpoint."""
        schedule, started, saved = self.task.schedule, time.monotonic() - self.seconds, time.monotonic()
        last = schedule.steps if until is None else min(until, schedule.steps)
        self._broadcast()
        for module in self.task.modules.values():
            module.train()
        sums, count = dict[str, float](), 0
        while self.step < last:
            for name, value in self._one_step().items():
                sums[name] = sums.get(name, 0.0) + value
            self.seconds = time.monotonic() - started
            self.step = done = self.step + 1
            count += 1
            if done % LOG_EVERY == 0 or done == last:
                self._log(done, {name: value / count for name, value in sums.items()})
                sums, count = {}, 0
            if self.rank == 0 and (time.monotonic() - saved > CHECKPOINT_EVERY_S or done == last):
                self._save(done)
                saved = time.monotonic()

    def use_average(self) -> None:
        """Put the averaged weights into the modules, in eval mode. Training cannot go on afterwards."""
        for name, module in self.task.modules.items():
            module.load_state_dict(self._average[name])
            module.eval()

    def _one_step(self) -> dict[str, float]:
        schedule = self.task.schedule
        rng = np.random.default_rng([self.seed, self.step, self.rank])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        for group in self._optimizer.param_groups:
            group["lr"] = schedule.lr_at(self.step) * group["scale"]
        loss, numbers = self.task.loss(schedule.batch // self.workers, rng, generator)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._share_gradients()
        norm = nn.utils.clip_grad_norm_(self._parameters, schedule.clip)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"{self.task.name}: the gradient is not finite at step {self.step}")
        self._optimizer.step()
        weight = 1 - min(schedule.ema, (1 + self.step) / (10 + self.step))
        for name, module in self.task.modules.items():
            _move_towards(self._average[name], module, weight)
        return {"loss": float(loss.detach()), **numbers}

    def _share_gradients(self) -> None:
        if self.workers == 1:
            return
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients]).div_(self.workers)
        torch.distributed.all_reduce(flat)
        torch._foreach_copy_(
            gradients,
            [c.view_as(g) for c, g in zip(flat.split([g.numel() for g in gradients]), gradients, strict=True)],
        )

    def _broadcast(self) -> None:
        """All workers start from the weights of the first."""
        if self.workers > 1:
            for module in self.task.modules.values():
                for tensor in module.state_dict().values():
                    torch.distributed.broadcast(tensor, 0)

    def _log(self, done: int, numbers: dict[str, float]) -> None:
        if self.rank:
            return
        rate = done / self.seconds if self.seconds else 0.0
        left = (self.task.schedule.steps - done) / rate if rate else 0.0
        line = {"step": done, "seconds": round(self.seconds, 1), **{k: round(v, 5) for k, v in numbers.items()}}
        with open(self.folder / "log.jsonl", "a") as log:
            log.write(json.dumps(line) + "\n")
        text = " ".join(f"{name} {value:.4f}" for name, value in numbers.items())
        print(f"{self.task.name} {done}/{self.task.schedule.steps} {text} | {left / 60:.1f} min left", flush=True)

    @property
    def _file(self) -> Path:
        return self.folder / "checkpoint.pt"

    def _save(self, done: int) -> None:
        state = {
            "step": done,
            "seconds": self.seconds,
            "seed": self.seed,
            "modules": {name: module.state_dict() for name, module in self.task.modules.items()},
            "average": self._average,
            "optimizer": self._optimizer.state_dict(),
        }
        fresh = self._file.with_suffix(".tmp")
        torch.save(state, fresh)
        os.replace(fresh, self._file)

    def _restore(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._file.exists():
            return
        state = torch.load(self._file, map_location=self.device, weights_only=True)
        if state["seed"] != self.seed:
            raise ValueError(
                f"{self._file} belongs to a run with seed {state['seed']}, not {self.seed}; remove it or name its seed"
            )
        for name, module in self.task.modules.items():
            module.load_state_dict(state["modules"][name])
        self._average = state["average"]
        self._optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]


def _join_workers(device: torch.device) -> tuple[int, int]:
    if "WORLD_SIZE" not in os.environ:
        return 0, 1
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


@torch.no_grad()
def _move_towards(average: dict[str, Tensor], module: nn.Module, weight: float) -> None:
    """average += weight * (module - average) for floats; counters are taken as they are."""
    slow, fast = [], []
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            slow.append(average[name])
            fast.append(tensor)
        else:
            average[name].copy_(tensor)
    torch._foreach_lerp_(slow, fast, weight)
