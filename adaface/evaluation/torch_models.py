"""How the torch models of the metrics are run: device, threads, batches, unit rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adaface.models.device import chosen_device


@dataclass(frozen=True)
class Running:
    """How models are run. `device` is resolved; features are float32 on any of them."""

    device: torch.device
    batch: int = 16
    threads: int = 1

    @staticmethod
    def on(device: str, batch: int = 16, threads: int = 1) -> Running:
        """`device` as for `chosen_device`, which raises ValueError for one that is not there."""
        return Running(chosen_device(device, "measures.device"), batch, threads)

    def unit_rows(self, function: Callable[[Any], Tensor], items: Sequence[Any], width: int) -> np.ndarray:
        """`function` of the items, in batches of at most `batch`: float32 (N, width) on the CPU, rows of length 1."""
        rows = [np.empty((0, width), np.float32)]
        with torch.inference_mode(), self._cpu_threads():
            for start in range(0, len(items), self.batch):
                made = function(items[start : start + self.batch]).float()
                rows.append(torch.nn.functional.normalize(made, dim=-1).cpu().numpy())
        return np.concatenate(rows)

    @contextmanager
    def _cpu_threads(self) -> Iterator[None]:
        """torch's pool is one per process: ours while we work on the CPU, and put back afterwards."""
        before = torch.get_num_threads()
        if self.device.type != "cpu" or before == self.threads:
            yield
            return
        torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)
