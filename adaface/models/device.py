"""Where networks run."""

from __future__ import annotations

import torch


def chosen_device(name: str, setting: str = "device") -> torch.device:
    """The device of this name; "auto" is CUDA where torch has it, else the CPU.

    Args:
        setting: what says the name: of a configuration or a command, for the error.

    Raises:
        ValueError: torch knows no such kind, or does not see it on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"there is no device `{name}`; set `{setting}` to auto, cpu or cuda") from None
    there = {
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(device.type, True):
        raise ValueError(f"device is `{name}`, which torch does not see; set `{setting}` to auto or cpu")
    return device
