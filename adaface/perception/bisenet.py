"""BiSeNet with a ResNet-18 context path, the face parser of zllrunning/face-parsing.PyTorch (Yu et al., ECCV 2018).

Module names are those of that repository, so that its `79999_iter.pth` loads as it is. Its two auxiliary heads serve
training alone and are left out. All convolutions are free of bias and BatchNorm follows each of them but the last.
`width` is the number of channels of the first stage, 64 in the original; all other numbers of channels are multiples
of it. It is read off a state dict, so that a narrower network loads by the same code.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaface.perception.classes import CLASS_NAMES

AUXILIARY = ("conv_out16.", "conv_out32.")
WIDTH = 64
_STEM = "cp.resnet.conv1.weight"


class ConvBNReLU(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int = 3):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut (He et al., 2015)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.downsample(x))


class ResNet18(nn.Module):
    """Image (B, 3, H, W) -> features (B, 2C, H/8, W/8), (B, 4C, H/16, W/16), (B, 8C, H/32, W/32), C the width."""

    def __init__(self, width: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = nn.Sequential(ResidualBlock(width, width, 1), ResidualBlock(width, width, 1))
        self.layer2 = nn.Sequential(ResidualBlock(width, 2 * width, 2), ResidualBlock(2 * width, 2 * width, 1))
        self.layer3 = nn.Sequential(ResidualBlock(2 * width, 4 * width, 2), ResidualBlock(4 * width, 4 * width, 1))
        self.layer4 = nn.Sequential(ResidualBlock(4 * width, 8 * width, 2), ResidualBlock(8 * width, 8 * width, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, stride=2, padding=1)
        eighth = self.layer2(self.layer1(x))
        sixteenth = self.layer3(eighth)
        return eighth, sixteenth, self.layer4(sixteenth)


class AttentionRefinement(nn.Module):
    """(B, inputs, h, w) -> (B, outputs, h, w), each channel gated by what the whole picture holds."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = ConvBNReLU(inputs, outputs)
        self.conv_atten = nn.Conv2d(outputs, outputs, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x * torch.sigmoid(self.bn_atten(self.conv_atten(_pool(x))))


class ContextPath(nn.Module):
    """Image (B, 3, H, W) -> detail (B, 2C, H/8, W/8), context of the same shape, coarse context (B, 2C, H/16, W/16)."""

    def __init__(self, width: int):
        super().__init__()
        self.resnet = ResNet18(width)
        self.arm16 = AttentionRefinement(4 * width, 2 * width)
        self.arm32 = AttentionRefinement(8 * width, 2 * width)
        self.conv_head32 = ConvBNReLU(2 * width, 2 * width)
        self.conv_head16 = ConvBNReLU(2 * width, 2 * width)
        self.conv_avg = ConvBNReLU(8 * width, 2 * width, kernel=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        eighth, sixteenth, thirtysecond = self.resnet(x)
        coarse = self.arm32(thirtysecond) + self.conv_avg(_pool(thirtysecond))
        coarse = self.conv_head32(F.interpolate(coarse, size=sixteenth.shape[2:], mode="nearest"))
        context = self.arm16(sixteenth) + coarse
        context = self.conv_head16(F.interpolate(context, size=eighth.shape[2:], mode="nearest"))
        return eighth, context, coarse


class FeatureFusion(nn.Module):
    """Two of (B, 2C, h, w) -> (B, 4C, h, w); a squeeze-and-excitation gate with a residual."""

    def __init__(self, width: int):
        super().__init__()
        self.convblk = ConvBNReLU(4 * width, 4 * width, kernel=1)
        self.conv1 = nn.Conv2d(4 * width, width, 1, bias=False)
        self.conv2 = nn.Conv2d(width, 4 * width, 1, bias=False)

    def forward(self, detail: Tensor, context: Tensor) -> Tensor:
        x = self.convblk(torch.cat([detail, context], dim=1))
        return x + x * torch.sigmoid(self.conv2(F.relu(self.conv1(_pool(x)))))


class Head(nn.Module):
    """(B, inputs, h, w) -> class scores (B, classes, h, w)."""

    def __init__(self, inputs: int, middle: int, classes: int):
        super().__init__()
        self.conv = ConvBNReLU(inputs, middle)
        self.conv_out = nn.Conv2d(middle, classes, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_out(self.conv(x))


class BiSeNet(nn.Module):
    """Image (B, 3, H, W), ImageNet-normalised RGB -> logits (B, 19, H, W); H and W at least 32.

    The published weights (`width` 64) were trained at H = W = 512.
    """

    def __init__(self, classes: int = len(CLASS_NAMES), width: int = WIDTH):
        super().__init__()
        self.cp = ContextPath(width)
        self.ffm = FeatureFusion(width)
        self.conv_out = Head(4 * width, 4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        detail, context, _ = self.cp(x)
        scores = self.conv_out(self.ffm(detail, context))
        return F.interpolate(scores, size=x.shape[2:], mode="bilinear", align_corners=True)

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> BiSeNet:
        """The network of a state dict, as wide as its first convolution, float32, in evaluation mode.

        The auxiliary heads are ignored, anything else must fit. Raises RuntimeError (torch's, which names the keys)
        where it does not.
        """
        stem = state.get(_STEM)
        # without a first convolution the original's width is as good as any for torch's list of what is wrong
        model = cls(width=len(stem) if isinstance(stem, Tensor) and stem.dim() == 4 else WIDTH)
        model.load_state_dict({name: value for name, value in state.items() if not name.startswith(AUXILIARY)})
        return model.eval()


def _pool(x: Tensor) -> Tensor:
    return x.mean(dim=(2, 3), keepdim=True)
