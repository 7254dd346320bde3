"""The face parser: BiSeNet, a quarter as wide as the published one, on rendered photographs.

As in face-parsing.PyTorch two further heads on coarser features are trained along and thrown away. Ears, brows, lips
and jewellery are a few pixels among tens of thousands, so rare classes weigh more in the cross entropy, and a soft Dice
loss counts each class alike.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from adaface.miniature.pictures.parser_photos import held_out_samples, load_training_set, mirrored
from adaface.miniature.pictures.rendered import Chunk
from adaface.miniature.training import Schedule, Task
from adaface.models.precision import autocast
from adaface.perception.bisenet import AUXILIARY, BiSeNet, Head
from adaface.perception.classes import CLASS_NAMES

SIDE = 256  # px; at 128 the network's 16 x 16 scores could not outline a brow, however good it was
WIDTH = 16
FILE = "parser/bisenet.safetensors"

_STEP = 3  # px between the pixels that a step looks at
_AUXILIARY_WEIGHT = 0.3
_RARITY = 0.35  # weight of a class in the cross entropy: its frequency to minus this
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Learner(BiSeNet):
    """BiSeNet with the two heads that only serve training, under the original's names."""

    def __init__(self, width: int = WIDTH):
        super().__init__(width=width)
        self.conv_out16 = Head(2 * width, width, len(CLASS_NAMES))
        self.conv_out32 = Head(2 * width, width, len(CLASS_NAMES))

    def scores(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, H, W) -> (B, 19, H/8, W/8) of the network, of the context at 1/8 and (B, 19, H/16, W/16) at 1/16."""
        detail, context, coarse = self.cp(x)
        return self.conv_out(self.ffm(detail, context)), self.conv_out16(context), self.conv_out32(coarse)


class ParserTask(Task):
    name = "parser"
    schedule = Schedule(steps=2600, batch=16, lr=3e-3, weight_decay=0.02, ema=0.995, decay=0.6, clip=5.0)

    pictures = 5600  # to train on
    held_out: ClassVar[dict[str, int]] = {"album": 240, "any": 160}  # to measure with

    def __init__(self, data: Path, weights: Path, device: torch.device):
        self.data, self.device = data, device
        self.parser = Learner().to(device)
        self.modules = {"parser": self.parser}
        self._set: Chunk | None = None
        self._weights = torch.ones(len(CLASS_NAMES), device=device)

    def loss(
        self, batch: int, rng: np.random.Generator, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        if self._set is None:
            self._set = load_training_set(self.data, self.pictures, SIDE)
            self._weights = class_weights(self._set["classes"][::4, ::4, ::4]).to(self.device)
        images, classes = self._batch(self._set, batch, rng)
        with autocast(self.device):
            # convolutions of few channels are faster with the channels last
            scores = self.parser.scores(normalised(images).contiguous(memory_format=torch.channels_last))
        # every third row and column is enough to learn from, other ones each time
        rows, columns = (torch.arange(int(rng.integers(_STEP)), SIDE, _STEP, device=self.device) for _ in range(2))
        numbers = {}
        cross, dice = segmentation_losses(scores[0].float(), classes, rows, columns, self._weights)
        total = cross + dice
        for name, auxiliary in (("at16", scores[1]), ("at32", scores[2])):
            extra, _ = segmentation_losses(auxiliary.float(), classes, rows[::2], columns[::2], self._weights)
            total = total + _AUXILIARY_WEIGHT * extra
            numbers[name] = float(extra.detach())
        return total, {"cross": float(cross.detach()), "dice": float(dice.detach()), **numbers}

    def load(self, folder: Path) -> None:
        """The two heads of training, which nobody exported, stay as they are."""
        file = folder / FILE
        if not file.is_file():
            raise FileNotFoundError(f"{file} does not exist; train it first: python -m adaface.miniature.train parser")
        self.parser.load_state_dict(BiSeNet.from_state_dict(load_file(file)).state_dict(), strict=False)
        self.parser.eval()

    def evaluate(self) -> dict[str, float]:
        """The exported file, run by the pipeline's own code, on held-out album photographs at 512 x 512.

        See `measure.parsing.Agreement` for what the numbers are; those of "any" have all styles, lights and poses.
        """
        from adaface.miniature.measure.parsing import compare
        from adaface.perception.config import BiSeNetConfig
        from adaface.perception.parsing import load_parser

        with tempfile.TemporaryDirectory() as folder:
            self.export(Path(folder))
            config = BiSeNetConfig(file=str(Path(folder) / FILE), side=SIDE)
            parser = load_parser(config, device=self.device.type, threads=torch.get_num_threads())
            album, other = (compare(parser, held_out_samples(kind, n)) for kind, n in self.held_out.items())
        return {
            **album.metrics(),
            "any_mean_iou": other.mean_iou(),
            "any_foreground_iou": float(other.foreground_iou.mean()),
        }

    def export(self, folder: Path) -> None:
        """Weights in float16, the few numbers per channel in float32."""
        file = folder / FILE
        file.parent.mkdir(parents=True, exist_ok=True)
        state = {
            name: value.cpu() for name, value in self.parser.state_dict().items() if not name.startswith(AUXILIARY)
        }
        save_file({name: value.half() if value.dim() > 1 else value for name, value in state.items()}, file)

    def _batch(self, pictures: Chunk, batch: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """uint8 (B, side, side, 3) and int64 (B, side, side); half of them seen in a mirror, of changed brightness."""
        images, maps = [], []
        for index in rng.integers(len(pictures["image"]), size=batch):
            image, classes = pictures["image"][index], pictures["classes"][index]
            if rng.random() < 0.5:
                image, classes = mirrored(image, classes)
            gain = rng.uniform(0.8, 1.2) * rng.uniform(0.94, 1.06, 3)
            images.append(np.clip(image * gain.astype(np.float32), 0, 255).astype(np.uint8))
            maps.append(classes)
        return (
            torch.from_numpy(np.stack(images)).to(self.device),
            torch.from_numpy(np.stack(maps)).to(self.device).long(),
        )


def normalised(images: Tensor) -> Tensor:
    """uint8 (B, H, W, 3) RGB -> what the network takes, float32 (B, 3, H, W)."""
    mean, std = (
        torch.tensor(values, device=images.device).view(1, 3, 1, 1) for values in (_IMAGENET_MEAN, _IMAGENET_STD)
    )
    return (images.permute(0, 3, 1, 2).float() / 255 - mean) / std


def class_weights(classes: np.ndarray) -> Tensor:
    """Class maps uint8 (...) -> float32 (19,): larger for rare classes, 1 on average over the pixels."""
    share = np.bincount(classes.ravel(), minlength=len(CLASS_NAMES)) / classes.size
    weights = np.maximum(share, 1e-4) ** -_RARITY
    return torch.from_numpy(weights / (weights * share).sum()).float()


def segmentation_losses(
    scores: Tensor, classes: Tensor, rows: Tensor, columns: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Weighted cross entropy and soft Dice loss (Milletari et al., arXiv 1606.04797) at some pixels.

    Args:
        scores: (B, 19, h, w), to be enlarged to the size of `classes` as BiSeNet does.
        classes: int64 (B, H, W).
        rows, columns: which pixels of `classes`, (R,) and (C,).
        weights: (19,) of the classes in the cross entropy.

    Returns:
        Both as scalars; Dice is the mean over the classes that occur, each counted over the whole batch.
    """
    down = _interpolation(scores.shape[2], classes.shape[1], scores.device)[rows]
    across = _interpolation(scores.shape[3], classes.shape[2], scores.device)[columns]
    logs = F.log_softmax(down @ scores @ across.T, dim=1)
    target = classes[:, rows][:, :, columns]
    cross = F.nll_loss(logs, target, weights)
    shares = logs.exp()
    own = shares.gather(1, target[:, None]).flatten()
    none = torch.zeros(scores.shape[1], device=scores.device)
    hits = none.index_add(0, target.flatten(), own)
    true = none.index_add(0, target.flatten(), torch.ones_like(own))
    dice = 1 - 2 * hits / (true + shares.sum((0, 2, 3))).clamp_min(1)
    return cross, dice[true > 0].mean()


def _interpolation(few: int, many: int, device: torch.device) -> Tensor:
    """(many, few): linear interpolation with the ends aligned, as a matrix."""
    at = torch.linspace(0, few - 1, many, device=device)[:, None]
    return (1 - (at - torch.arange(few, device=device)).abs()).clamp_min(0)
