"""The optimizer: Prodigy (Mishchenko and Defazio 2023), which finds its own learning rate, or AdamW.

Prodigy multiplies Adam's step by d, an estimate of how far the weights have to go, that only grows. Which learning rate
that makes is logged: `rates`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn
from torch.optim import Optimizer

from adaface.distill.problems import lists_to_tuples, positive_problems, raise_for

_RATES = {"prodigy": 1.0, "adamw": 1e-4}


@dataclass(frozen=True)
class OptimizerSettings:
    """Which optimizer, and its numbers.

    Attributes:
        name: "prodigy" or "adamw".
        rate: learning rate before the schedule; None gives 1 for Prodigy, where it belongs, and 1e-4 for AdamW.
        betas: of the running means of gradients and their squares.
        eps: added to the root of the latter.
        weight_decay: decoupled, as in AdamW.
        clip: largest Euclidean norm of all gradients together.
        first_d: Prodigy's first d.
        d_coefficient: multiplies Prodigy's estimate; 1 in the original's stage 1 and 0.5 in its stage 2.
        d_growth: largest factor by which d grows in a step; None: there is none.
        safe_warmup: Prodigy's estimate does not divide by the learning rate, as its authors advise for a warm-up. Off
            in the original, which has none, and here: d grows several times slower with it, and hardly in short runs.

    Raises:
        ValueError: naming everything that is wrong.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    name: Literal["prodigy", "adamw"] = "prodigy"
    rate: float | None = None
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip: float = 0.5
    first_d: float = 1e-6
    d_coefficient: float = 1.0
    d_growth: float | None = None
    safe_warmup: bool = False

    def __post_init__(self) -> None:
        lists_to_tuples(self, "betas")
        problems = [] if self.name in _RATES else [f"name must be one of {', '.join(_RATES)}, not {self.name!r}"]
        if self.rate is not None:
            problems += positive_problems(self, "rate")
        if not (isinstance(self.betas, tuple) and len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)):
            problems.append(f"betas must be two numbers, 0 or more and below 1, not {self.betas!r}")
        if not self.weight_decay >= 0:
            problems.append(f"weight_decay must be 0 or more, not {self.weight_decay!r}")
        if self.d_growth is not None and not self.d_growth > 1:
            problems.append(f"d_growth must be above 1, or d stays where it is, not {self.d_growth!r}")
        raise_for("the optimizer", problems, positive_problems(self, "eps", "clip", "first_d", "d_coefficient"))

    @property
    def first_rate(self) -> float:
        """The learning rate before the schedule."""
        return _RATES[self.name] if self.rate is None else self.rate


def build_optimizer(parameters: Iterable[nn.Parameter], settings: OptimizerSettings) -> Optimizer:
    """An optimizer over those of the parameters that are trained, in one group.

    Its `state_dict` restores it exactly: the next steps have the same bits. Build it over the same weights in the same
    order, and after the encoder was extended.

    Raises:
        ValueError: when none of them is trained.
        ModuleNotFoundError: for Prodigy where the package prodigyopt is not installed.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        raise ValueError("there is nothing to train: no parameter asks for a gradient")
    if settings.name == "adamw":
        return torch.optim.AdamW(
            trained,
            lr=settings.first_rate,
            betas=settings.betas,
            eps=settings.eps,
            weight_decay=settings.weight_decay,
        )
    try:
        from prodigyopt import Prodigy
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Prodigy is in the package prodigyopt: pip install prodigyopt==1.1.2, or choose the optimizer adamw",
            name=error.name,
        ) from error
    optimizer: Optimizer = Prodigy(
        trained,
        lr=settings.first_rate,
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
        use_bias_correction=True,
        safeguard_warmup=settings.safe_warmup,
        d0=settings.first_d,
        d_coef=settings.d_coefficient,
        growth_rate=math.inf if settings.d_growth is None else settings.d_growth,
    )
    return optimizer


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """The learning rate of the next step. Raises ValueError unless above 0, which Prodigy does not take."""
    if not rate > 0:
        raise ValueError(f"a learning rate must be above 0, not {rate}")
    for group in optimizer.param_groups:
        group["lr"] = rate


def rates(optimizer: Optimizer) -> dict[str, float]:
    """For the log: `rate` as set, `effective_rate` that multiplies Adam's step, and Prodigy's `d`.

    Adam's bias correction, which fades within the first steps, is left out.
    """
    group = optimizer.param_groups[0]
    if "d" not in group:
        return {"rate": float(group["lr"]), "effective_rate": float(group["lr"])}
    return {"rate": float(group["lr"]), "effective_rate": float(group["d"] * group["lr"]), "d": float(group["d"])}


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], largest: float) -> float:
    """Scales all gradients down to this Euclidean norm together, and returns the norm that they had.

    Where it is not finite they stay as they are, and the caller leaves the step out.
    """
    with_gradient = [parameter for parameter in parameters if parameter.grad is not None]
    norm = nn.utils.get_total_norm([parameter.grad for parameter in with_gradient])  # type: ignore[misc]
    if torch.isfinite(norm):
        nn.utils.clip_grads_with_norm_(with_gradient, largest, norm)
    return float(norm)
