"""A second look at what a detector found: at the five points where it believes eyes, nose and mouth to be.

One pass says roughly where a face is. Looking again at those very places, in steps that grow with the face, tells where
its features are to a fraction of that, and whether they are there at all: a landscape that passed for a face has none.
A cascade in the spirit of Cao et al. (Face Alignment by Explicit Shape Regression) and of two-stage detectors.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CANDIDATES = 96  # places that are looked at again
DETAIL_WIDTH, LEVEL_WIDTH = 32, 48  # channels of the features at strides 4 and 8
_DETAIL_STRIDE, _LEVEL_STRIDE = 4.0, 8.0
_POINTS, _REACH, _STEP = 5, 2, 0.06  # around each point 5 x 5 samples, so many sides of the face apart
_SAMPLES = (2 * _REACH + 1) ** 2
_UNIT = 0.1  # outputs are in tenths of the face's side


class Rows(nn.Linear):
    """A linear layer over the last axis, computed on two-dimensional rows: ONNX then keeps its weights by their names."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.reshape(-1, self.in_features)).reshape(*x.shape[:-1], self.out_features)


class SecondLook(nn.Module):
    """Features and candidates of a detector -> better ones.

    Everything is seen relative to the first points and the first box, so that faces of all sizes look alike.
    """

    around: Tensor  # (S, 2) where the samples of a point are, in sides of the face

    def __init__(self, width: int = 64):
        super().__init__()
        self.detail = Rows(DETAIL_WIDTH, 16)
        self.level = Rows(LEVEL_WIDTH, 16)
        self.patch = Rows(32 * _SAMPLES, width)
        self.shape = Rows(2 * _POINTS, width)
        self.hidden = nn.Sequential(Rows(_POINTS * width + width, 2 * width), nn.ReLU())
        self.out = Rows(2 * width, 1 + 4 + 2 * _POINTS)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        around = torch.arange(-_REACH, _REACH + 1) * _STEP
        y, x = torch.meshgrid(around, around, indexing="ij")
        self.register_buffer("around", torch.stack([x, y], -1).reshape(-1, 2), persistent=False)

    def forward(self, detail: Tensor, level: Tensor, boxes: Tensor, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Args: features (B, 32, H/4, W/4) and (B, 48, H/8, W/8); boxes (B, K, 4) and points (B, K, 5, 2), px.

        Returns what to add to the score's logits (B, K, 1), boxes (B, K, 4) and points (B, K, 5, 2), px.
        """
        span = (boxes[..., 2:] - boxes[..., :2]).clamp_min(4.0)
        side = span.prod(-1, keepdim=True).sqrt()  # (B, K, 1)
        samples = points[..., None, :] + self.around * side[..., None, None]  # (B, K, 5, S, 2)
        seen = [
            F.relu(layer(_sampled(features, samples, stride)))
            for layer, features, stride in (
                (self.detail, detail, _DETAIL_STRIDE),
                (self.level, level, _LEVEL_STRIDE),
            )
        ]
        patches = F.relu(self.patch(torch.cat(seen, -1).flatten(-2)))  # (B, K, 5, width)
        middle = (boxes[..., :2] + boxes[..., 2:]) / 2
        layout = (points - middle[..., None, :]) / side[..., None]
        shape = F.relu(self.shape(layout.flatten(-2)))
        out = self.out(self.hidden(torch.cat([patches.flatten(-2), shape], -1)))
        moves = out[..., 1:] * (_UNIT * side)
        return out[..., :1], boxes + moves[..., :4], points + moves[..., 4:].unflatten(-1, (_POINTS, 2))


def _sampled(features: Tensor, where: Tensor, stride: float) -> Tensor:
    """Bilinear samples of features (B, C, H, W) at px positions (B, K, P, S, 2): (B, K, P, S, C); 0 outside."""
    height, width = features.shape[2], features.shape[3]
    batch, candidates, points, samples, _ = where.shape
    # a convolution of stride s centres its output i on pixel i * s, give or take the parity of its kernels
    size = torch.stack([torch.ones_like(where[..., 0]) * width, torch.ones_like(where[..., 0]) * height], -1)
    grid = (2 * where / stride + 1) / size - 1
    grid = grid.reshape(batch, candidates, points * samples, 2)
    found = F.grid_sample(features.float(), grid.float(), mode="bilinear", padding_mode="zeros", align_corners=False)
    return found.permute(0, 2, 3, 1).reshape(batch, candidates, points, samples, -1)
