"""How fast steps are, in numbers that compare: floating-point operations of the UNets, memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from adaface.distill.models import FrozenModels
from adaface.distill.plan import BatchPlan
from adaface.distill.stage import Stage

# Dense bf16 operations per second of GPUs, by a part of their names; of their makers' data sheets.
_PEAKS = {
    "H200": 989e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "4090": 165e12,
    "A6000": 155e12,
    "L4": 121e12,
}


class FlopCount:
    """Operations of the UNets in a batch, from one forward pass that was counted.

    What text encoders, VAE and losses take is left out: a share of MFU (Chowdhery et al. 2022) that is too low rather
    than too high.

    Attributes: `forward` operations of one sample through one UNet.
    """

    def __init__(self, models: FrozenModels) -> None:
        config = models.unet.config
        x = torch.zeros(1, config.in_channels, config.sample_size, config.sample_size, device=models.device)
        text = models.text.config
        states = torch.zeros(1, text.max_position_embeddings, text.hidden_size, device=models.device)
        with FlopCounterMode(display=False) as counter:
            models.predict(models.unet, states)(x, torch.zeros(1, dtype=torch.long, device=models.device))
        self.forward = float(counter.get_total_flops())

    def of_batch(self, batch: BatchPlan, rows: int, *, guidance: bool, candidates: int, teachable: float) -> float:
        """Of one batch: a backward pass to the text alone costs as much as a forward pass.

        Args:
            rows: samples that are computed.
            guidance: whether the teacher is asked twice.
            candidates: starts that the teacher filter looks at, each with three passes.
            teachable: share of compositions that go on, with four passes forward and backward.
        """
        if batch.kind == "compositional":
            return rows * self.forward * (3 * candidates + 2 * 4 * teachable)
        passes = 2.0 * batch.rollout
        if batch.target == "teacher":
            passes += batch.rollout * (2 if guidance else 1)
        return rows * self.forward * passes


def passes_of(stage: Stage, numbers: Mapping[str, float], *, filters: bool) -> dict[str, Any]:
    """What `FlopCount.of_batch` asks of a step that said `numbers` of itself.

    Args:
        filters: whether there is a CLIP to choose starts by.
    """
    looks_inside = bool(stage.losses.looks_inside)
    return {
        "guidance": stage.distillation.teacher_guidance != 1,
        "candidates": stage.filter.starts if filters and looks_inside else 0,
        "teachable": numbers.get("teachable", 1.0) if looks_inside else 0.0,
    }


def peak_flops(device: torch.device) -> float | None:
    """Operations per second that a GPU can do in bf16; None for what is not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in _PEAKS.items() if part in name), None)


def memory_gb(device: torch.device) -> float:
    """Most memory so far: that of tensors on a GPU, that of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    import resource

    usage: Any = resource.getrusage(resource.RUSAGE_SELF)
    return float(usage.ru_maxrss) * 1024 / 1e9
