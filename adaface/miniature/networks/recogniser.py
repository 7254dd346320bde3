"""The two recognisers: an ArcFace-like network that the pipeline runs on, and another one that judges its results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from adaface.miniature.networks.alignment import align
from adaface.miniature.networks.conv_net import Residual, convolution, load_onnx

ID_DIM = 64


class EmbeddingNet(nn.Sequential):
    """`features`, then the linear map to the embedding, which is not of unit norm."""

    features: nn.Module
    embedding: nn.Module

    def __init__(self, features: nn.Module, length: int):
        super().__init__()
        self.add_module("features", features)
        self.add_module("embedding", nn.Linear(length, ID_DIM))


class Recogniser(EmbeddingNet):
    """(B, 3, 112, 112) in -1..1, RGB -> (B, 64): a small residual network, 0.95 M parameters.

    Its first layer takes every fourth pixel: at the sizes that matter, an eye is ten pixels wide after alignment. As in
    ArcFace the last map is kept whole, since where something is in an aligned face says what it is.
    """

    def __init__(self) -> None:
        body = nn.Sequential(
            convolution(3, 48, 7, 4, nn.ReLU(inplace=True)),
            Residual(48, 48),
            Residual(48, 96, 2),
            Residual(96, 96),
            Residual(96, 160, 2),
            convolution(160, 64, 1, 1, nn.ReLU(inplace=True)),
            nn.Flatten(),
        )
        super().__init__(body, 64 * 7 * 7)


class Judge(EmbeddingNet):
    """(B, 3, 112, 112) in -1..1, RGB -> (B, 64): no shortcuts, leaky units, more and narrower steps."""

    def __init__(self) -> None:
        def layer(before: int, after: int, stride: int) -> nn.Module:
            return convolution(before, after, 3, stride, nn.LeakyReLU(0.1, inplace=True))

        body = nn.Sequential(
            layer(3, 16, 2),
            layer(16, 40, 2),
            layer(40, 56, 1),
            layer(56, 96, 2),
            layer(96, 96, 1),
            layer(96, 128, 2),
            layer(128, 128, 1),
            layer(128, 160, 2),
            nn.Flatten(),
        )
        super().__init__(body, 160 * 4 * 4)


# by the folder below the weights that holds the file
NETWORKS: dict[str, Callable[[], EmbeddingNet]] = {"pack": Recogniser, "judge": Judge}


def recogniser_file(weights: Path, name: str) -> Path:
    """Where the recogniser of the "pack" or of the "judge" is kept. Raises ValueError for any other name."""
    if name not in NETWORKS:
        raise ValueError(f"unknown recogniser {name!r}: known are {', '.join(NETWORKS)}")
    return weights / name / "recogniser.onnx"


def load_recogniser(weights: Path, name: str = "pack") -> EmbeddingNet:
    """The torch network of the finished recogniser of the "pack" or of the "judge", frozen, on the CPU.

    Raises FileNotFoundError where it is not there yet, ValueError for an unknown name or a file of something else.
    """
    file = recogniser_file(weights, name)
    net = NETWORKS[name]()
    load_onnx(net, file)
    return net


def to_input(crops: Sequence[np.ndarray] | np.ndarray) -> Tensor:
    """RGB uint8 (B, S, S, 3) -> float32 (B, 3, S, S) in -1..1, as insightface's `ArcFaceONNX` scales it."""
    return torch.from_numpy(np.asarray(crops)).permute(0, 3, 1, 2).float().sub_(127.5).div_(127.5)


@torch.inference_mode()
def embed_portraits(
    net: nn.Module, images: Sequence[np.ndarray] | np.ndarray, landmarks: np.ndarray, batch: int = 64
) -> Tensor:
    """RGB uint8 (B, H, W, 3), or B pictures of any sizes, with landmarks (B, 5, 2) px -> float32 (B, 64), unit norm,
    on the CPU.
    """
    device = next(net.parameters()).device
    out = [torch.empty(0, ID_DIM)]
    for start in range(0, len(images), batch):
        part = slice(start, start + batch)
        crops = [align(image, points) for image, points in zip(images[part], landmarks[part], strict=True)]
        raw = net(to_input(crops).to(device)).float()
        out.append(nn.functional.normalize(raw, dim=1).cpu())
    return torch.cat(out)
