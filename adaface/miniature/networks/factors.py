"""The factor classifier: reads the six words of a scene off a picture. Evaluation only; it is trained on rendered truth."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from adaface.miniature.world.scene import VOCABULARY

FEATURES = 96  # width of the pooled features, which double as a picture embedding


class FactorClassifier(nn.Module):
    """Images (B, 3, 64, 64) in -1..1 -> one row of logits per factor of a scene, (B, number of words) each."""

    def __init__(self) -> None:
        super().__init__()
        widths = (24, 48, 72, FEATURES)
        layers: list[nn.Module] = []
        before = 3
        for width in widths:
            layers += [
                nn.Conv2d(before, width, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            before = width
        self.body = nn.Sequential(*layers)
        self.pool = nn.Linear(FEATURES * 16, FEATURES)
        self.heads = nn.ModuleDict({name: nn.Linear(FEATURES, len(words)) for name, words in VOCABULARY.items()})

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, 64, 64) in -1..1 -> (B, 96). The place of things matters (a hat is on top), hence no average pool."""
        return F.relu(self.pool(self.body(images).flatten(1)))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        hidden = self.features(images)
        return {name: head(hidden).float() for name, head in self.heads.items()}

    @staticmethod
    def load(weights: Path) -> FactorClassifier:
        """The trained classifier of a weights folder. Raises FileNotFoundError where there is none."""
        file = weights / "factors" / "classifier.safetensors"
        if not file.exists():
            raise FileNotFoundError(f"{file} does not exist; train it: python -m adaface.miniature.train factors")
        net = FactorClassifier()
        net.load_state_dict(
            {
                name: tensor.float() if tensor.is_floating_point() else tensor
                for name, tensor in load_file(file).items()
            }
        )
        return net.eval()


@torch.inference_mode()
def read_factors(net: FactorClassifier, images: Tensor) -> dict[str, Tensor]:
    """Images (B, 3, 64, 64) in -1..1 -> index of the likeliest word per factor, int64 (B,)."""
    parts = [net(part) for part in images.split(256)]
    return {name: torch.cat([part[name].argmax(1) for part in parts]).cpu() for name in VOCABULARY}
