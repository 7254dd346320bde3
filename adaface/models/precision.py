"""What networks multiply in: float32, or bfloat16 where the hardware does."""

from __future__ import annotations

from typing import Literal

import torch

Products = Literal["fp32", "bf16"]
Precision = Literal["auto", "fp32", "bf16"]  # what a configuration may ask for


def has_bf16(device: torch.device | str) -> bool:
    """Whether products of bfloat16 are what the hardware is good at: a GPU, a CPU with AMX or AVX512-BF16.

    Other CPUs can be told to, and take about three times as long as with float32.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return kind == "cpu" and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def products(precision: Precision, device: torch.device | str) -> Products:
    """What is asked for, or with "auto" what the hardware is good at."""
    if precision == "auto":
        return "bf16" if has_bf16(device) else "fp32"
    return precision


def autocast(device: torch.device | str, precision: Precision = "auto") -> torch.autocast:
    """The context in which matrix products have this precision; with "fp32" the one in which nothing changes."""
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=products(precision, device) == "bf16")
