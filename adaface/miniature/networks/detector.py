"""A small SCRFD: boxes and five key points of faces at strides 8, 16 and 32, in the layout insightface reads.

The places with the best scores get a second look (second_look.py) inside the same graph.

Guo et al., Sample and Computation Redistribution for Efficient Face Detection, arXiv 2105.04714; the layout is that of
its `scrfd_*_bnkps.onnx` files, read by insightface's `model_zoo/scrfd.py`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from adaface.miniature.networks.onnx_export import export_onnx, read_weights
from adaface.miniature.networks.second_look import CANDIDATES, SecondLook

STRIDES = (8, 16, 32)
ANCHORS = 2  # per place
# Side of the two anchors of each stride, px: a face belongs to those nearest to it in size.
ANCHOR_SIDES = ((16.0, 32.0), (64.0, 128.0), (256.0, 512.0))
OUTPUTS = [f"{what}_{stride}" for what in ("score", "box", "points") for stride in STRIDES]

_WIDTHS = (16, 32, 56, 80, 80)  # channels at strides 2, 4, 8, 16, 32
_BLOCKS = (0, 1, 2, 1, 1)  # residual blocks after the halving of each
_NECK = 48


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, *, relu: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs, momentum=0.03),
    ]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)


class _Block(nn.Module):
    """relu(x + conv(relu(conv(x))))."""

    def __init__(self, width: int):
        super().__init__()
        self.first, self.second = _conv(width, width), _conv(width, width, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


class _Head(nn.Module):
    """Scores, boxes and key points of one stride from its features (B, C, H, W)."""

    def __init__(self, width: int):
        super().__init__()
        self.tower, self.judge = _conv(width, width), _conv(width, width)
        self.score = nn.Conv2d(width, ANCHORS, 1)
        self.box = nn.Conv2d(width, ANCHORS * 4, 1)
        self.points = nn.Conv2d(width, ANCHORS * 10, 1)
        for layer in (self.score, self.box, self.points):
            nn.init.normal_(layer.weight, std=0.01)
        start = torch.tensor([half for half in (1.0, 2.0) for _ in range(4)])
        self.box.bias = nn.Parameter(start)  # every place starts with its anchor
        self.score.bias = nn.Parameter(torch.full((ANCHORS,), -4.6))  # sigmoid: 0.01; most places are background

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        where = self.tower(x)
        return _flat(self.score(self.judge(x)), 1), _flat(self.box(where), 4), _flat(self.points(where), 10)


class Detector(nn.Module):
    """RGB (B, 3, H, W) float, (value - 127.5) / 128, H and W multiples of 32 -> three lists, one entry per stride.

    Score logits (B, N, 1), boxes (B, N, 4) as distances to left, top, right, bottom, key points (B, N, 10) as offsets
    x, y; both from the place, in strides. N runs over rows, columns and the anchors of a place.
    """

    def __init__(self) -> None:
        super().__init__()
        stages, inputs = [], 3
        for width, blocks in zip(_WIDTHS, _BLOCKS, strict=True):
            stages.append(nn.Sequential(_conv(inputs, width, stride=2), *(_Block(width) for _ in range(blocks))))
            inputs = width
        self.stages = nn.ModuleList(stages)
        self.lateral = nn.ModuleList(_conv(width, _NECK, 1) for width in _WIDTHS[2:])
        self.smooth = nn.ModuleList(_conv(_NECK, _NECK) for _ in STRIDES)
        self.heads = nn.ModuleList(_Head(_NECK) for _ in STRIDES)

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        return self.look(self.features(images)[1])

    def features(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """What is seen: (B, 32, H/4, W/4) in detail, and (B, 48, H/s, W/s) for each stride s."""
        features, x = [], images
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        levels = [layer(f) for layer, f in zip(self.lateral, features[2:], strict=True)]
        for i in (1, 0):  # what is seen coarsely tells the finer levels what they look at
            levels[i] = levels[i] + F.interpolate(levels[i + 1], scale_factor=2.0, mode="nearest")
        return features[1], [smooth(f) for smooth, f in zip(self.smooth, levels, strict=True)]

    def look(self, levels: list[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """The outputs of `forward` from the levels of `features`."""
        scores, boxes, points = zip(*(head(f) for head, f in zip(self.heads, levels, strict=True)), strict=True)
        return list(scores), list(boxes), list(points)


class _ForInsightface(nn.Module):
    """The nine outputs for one picture: scores 0..1 (N, 1), boxes (N, 4), key points (N, 10), each at three strides."""

    def __init__(self, detector: Detector, second: SecondLook | None):
        super().__init__()
        self.detector, self.second = detector, second

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        detail, levels = self.detector.features(image)
        found = self.detector.look(levels)
        first, both = found[0][0].shape[1], found[0][0].shape[1] + found[0][1].shape[1]
        scores, boxes, points = (torch.cat(kind, 1)[0] for kind in found)
        if self.second is not None:
            where, strides = _places_in(levels)
            best = scores[:, 0].topk(CANDIDATES).indices
            once = decode_boxes(boxes[best], where[best], strides[best])
            marks = decode_points(points[best], where[best], strides[best])
            more, edges, moves = self.second(detail, levels[0], once[None], marks[None])
            scores = scores.index_copy(0, best, scores[best] + more[0])
            boxes = boxes.index_copy(0, best, encode_boxes(edges[0], where[best], strides[best]))
            points = points.index_copy(0, best, encode_points(moves[0], where[best], strides[best]))
        kinds = (scores.sigmoid(), boxes, points)
        return tuple(part for kind in kinds for part in (kind[:first], kind[first:both], kind[both:]))


def export_detector(detector: Detector, path: Path, second: SecondLook | None = None) -> None:
    """Write an ONNX file that insightface takes for an SCRFD detector of any input size from 64 x 96 px on."""
    dynamic = {"input": {2: "height", 3: "width"}, **{name: {0: f"places_{name}"} for name in OUTPUTS}}
    export_onnx(
        _ForInsightface(_folded(detector), second),
        torch.zeros(1, 3, 64, 96),
        path,
        outputs=list(OUTPUTS),
        dynamic=dynamic,
    )


def load_detector(path: Path) -> Detector:
    """The network of a file of `export_detector`, in eval mode, on the CPU; its normalisations only add a bias.

    Raises FileNotFoundError for a missing file, ValueError for one of another network.
    """
    stored = {name: tensor for name, tensor in read_weights(path).items() if name.startswith("detector.")}
    detector = Detector().eval()
    state = detector.state_dict()
    for name, module in detector.named_modules():
        if not isinstance(module, nn.BatchNorm2d):
            continue
        conv = name.removesuffix("1") + "0"  # see `_conv`
        state[f"{name}.weight"] = torch.full_like(module.weight, (1 + module.eps) ** 0.5)
        state[f"{name}.bias"] = stored.pop(f"detector.{conv}.bias", torch.empty(0))
    state.update({name.removeprefix("detector."): tensor for name, tensor in stored.items()})
    try:
        detector.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{path} holds another network than this detector; train it anew") from error
    return detector


def load_second_look(path: Path) -> SecondLook:
    """The second look of a file of `export_detector`, in eval mode. Raises as `load_detector`."""
    stored = read_weights(path)
    second = SecondLook().eval()
    state = {name.removeprefix("second."): tensor for name, tensor in stored.items() if name.startswith("second.")}
    try:
        second.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{path} has no second look of this kind; train it: second_look") from error
    return second


def _places_in(levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """`places` by the sizes of the levels, in operations that an ONNX graph of any input size can hold."""
    where, strides = [], []
    for stride, level in zip(STRIDES, levels, strict=True):
        one = torch.ones_like(level[0, 0])
        x, y = one.cumsum(1) - 1, one.cumsum(0) - 1
        here = torch.stack([x, y], -1).reshape(-1, 1, 2).expand(-1, ANCHORS, 2).reshape(-1, 2) * float(stride)
        where.append(here)
        strides.append(torch.full_like(here[:, 0], float(stride)))
    return torch.cat(where), torch.cat(strides)


def _folded(detector: Detector) -> Detector:
    """A copy in eval mode whose convolutions do the work of the normalisations behind them."""
    folded = copy.deepcopy(detector).eval()
    for layers in folded.modules():
        if isinstance(layers, nn.Sequential) and len(layers) > 1 and isinstance(layers[1], nn.BatchNorm2d):
            conv = layers[0]
            assert isinstance(conv, nn.Conv2d)
            layers[0], layers[1] = fuse_conv_bn_eval(conv, layers[1]), nn.Identity()
    return folded


def places(height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of every output of a (height, width) picture, strides one after the other: where it is and what it is for.

    Returns positions (N, 2) px, strides (N,) px and anchor sides (N,) px, all float32.
    """
    where, strides, sides = [], [], []
    for stride, both in zip(STRIDES, ANCHOR_SIDES, strict=True):
        y, x = torch.meshgrid(torch.arange(height // stride), torch.arange(width // stride), indexing="ij")
        here = torch.stack([x, y], -1).reshape(-1, 1, 2).expand(-1, ANCHORS, 2).reshape(-1, 2) * float(stride)
        where.append(here)
        strides.append(torch.full((len(here),), float(stride)))
        sides.append(torch.tensor(both).repeat(len(here) // ANCHORS))
    return torch.cat(where), torch.cat(strides), torch.cat(sides)


def encode_boxes(boxes: Tensor, where: Tensor, stride: Tensor) -> Tensor:
    """Boxes (..., 4) x0, y0, x1, y1 px -> distances (..., 4) in strides from the places (..., 2)."""
    return torch.cat([where - boxes[..., :2], boxes[..., 2:] - where], -1) / stride[..., None]


def decode_boxes(distances: Tensor, where: Tensor, stride: Tensor) -> Tensor:
    """The inverse of `encode_boxes`: insightface's `distance2bbox` after its multiplication by the stride."""
    px = distances * stride[..., None]
    return torch.cat([where - px[..., :2], where + px[..., 2:]], -1)


def encode_points(points: Tensor, where: Tensor, stride: Tensor) -> Tensor:
    """Key points (..., 5, 2) px -> offsets (..., 10) in strides from the places (..., 2)."""
    return ((points - where[..., None, :]) / stride[..., None, None]).flatten(-2)


def decode_points(offsets: Tensor, where: Tensor, stride: Tensor) -> Tensor:
    """The inverse of `encode_points`: insightface's `distance2kps`."""
    return offsets.unflatten(-1, (5, 2)) * stride[..., None, None] + where[..., None, :]


def _flat(x: Tensor, numbers: int) -> Tensor:
    """(B, ANCHORS * numbers, H, W) -> (B, H * W * ANCHORS, numbers)."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, numbers)


def concatenated(outputs: Sequence[Tensor]) -> Tensor:
    """One kind of output (B, N, ...) of all strides, in the order of `places`, float32."""
    return torch.cat(list(outputs), 1).float()
