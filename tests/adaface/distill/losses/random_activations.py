"""Random queries, features, attention and masks in the shapes that the losses take, for B images or G groups of four."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SIZES = {"down": (16, 16), "mid": (8, 8), "up": (16, 16), "last": (32, 32)}
WEIGHTS = {"down": 0.1, "mid": 0.4, "up": 0.3, "last": 0.2}
HEADS = 2


@dataclass(frozen=True)
class Random:
    """Tensors of B rows; row b is the same for every B. With `four` there are four blocks of `count` rows."""

    count: int
    four: bool = False
    dtype: torch.dtype = torch.float32

    def rows(self, name: str, *shape: int, seed: int = 0) -> Tensor:
        def draw(row: int, block: int) -> Tensor:
            number = (
                sum(ord(letter) * 31**place for place, letter in enumerate(name)) + 1009 * row + 9973 * block + seed
            )
            return torch.randn(*shape, generator=torch.Generator().manual_seed(number % 2**31))

        blocks = range(4) if self.four else range(1)
        return torch.stack([draw(row, block) for block in blocks for row in range(self.count)]).to(self.dtype)

    def maps(self, name: str, channels: int) -> dict[str, Tensor]:
        return {layer: self.rows(name + layer, channels, *size) for layer, size in SIZES.items()}

    def mask(self) -> Tensor:
        """(count, 1, 32, 32): a rectangle that differs from row to row."""
        mask = torch.zeros(self.count, 1, 32, 32)
        for row in range(self.count):
            mask[row, 0, 8 : 20 + row, 10 : 22 - row] = 1
        return mask
