"""What drew and what measured, as those say who had it loaded: written once by a worker, shown in the report."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from typing import Any

from adaface.evaluation.torch_models import Running
from data_pipeline.storage import Storage
from ray_jobs.evaluate_digests import Digests

_FOLDER = "provenance"


def method_file(digests: Digests, method: str) -> str:
    return f"{_FOLDER}/method-{method}-{digests.methods[method][:12]}.json"


def measures_file(digests: Digests) -> str:
    return f"{_FOLDER}/measures-{digests.measures[:12]}.json"


def note(out: Storage, file: str, device: str, about: Callable[[], dict[str, Any]]) -> None:
    """Write what `about()` says, which may read large files, with the device; what is written stays.

    Args:
        device: of the configuration.
    """
    if not out.exists(file):
        # what somebody else's method says of itself may be anything
        out.write_json(file, json.loads(json.dumps({"device": _device(device), **about()}, default=str)))


def noted(out: Storage, file: str) -> dict[str, Any]:
    """Empty for outputs from before it was written."""
    return dict(out.read_json(file)) if out.exists(file) else {}


def _device(name: str) -> str:
    """What it is: the same number computed on another one may differ in its last bits."""
    import torch

    try:
        device = Running.on(name).device
    except ValueError:  # a method of one's own need not use it
        return name
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {platform.processor() or platform.machine()}"
