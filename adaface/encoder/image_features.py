"""CLIP features of a picture, its person and its background apart: what the background generator reads.

From the original's `encode_zero_shot_image_features` (ldm/models/diffusion/ddpm.py) and its CLIPVisionModelWithMask.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPVisionModel


def image_features(vision: CLIPVisionModel, pixels: Tensor, person: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Features of the person and of the background, see `side_features`.

    Args:
        vision: CLIP's vision model of width W; ViT-L/14 in the original.
        pixels: (B, 3, H, H) as CLIP's image processor makes them.
        person: (B, h, w) values 0..1, 1 on the person; of any size. Without it all is person.

    Returns:
        two of (B, N, W), N = patches + 1: of the person and of the background. Both have the class token.

    Raises:
        ValueError: when the mask is not (B, h, w).
    """
    if person is None:
        person = pixels.new_ones(len(pixels), 1, 1)
    mask = patch_mask(vision, person)
    return side_features(vision, pixels, mask), side_features(vision, pixels, other_side(mask))


@torch.no_grad()
def side_features(vision: CLIPVisionModel, pixels: Tensor, mask: Tensor) -> Tensor:
    """The second to last hidden state, less that of a black (all zero) picture, times the mask of one side.

    The mask is added to the logits of attention, too: pairs of patches within it get one more. So attention leans
    towards that side, and is not cut off from the other.

    Args:
        pixels: (B, 3, H, H).
        mask: (B, N, 1) values 0..1 of the class token and the patches, as `patch_mask` makes them.

    Returns:
        (B, N, W) without gradient.
    """
    if len(mask) != len(pixels):
        raise ValueError(f"{len(pixels)} pictures, but masks for {len(mask)}")
    black = _penultimate(vision, torch.zeros_like(pixels[:1]))
    if (mask == 1).all():  # one more everywhere is nothing
        return _penultimate(vision, pixels) - black
    with _leaning(vision, (mask @ mask.transpose(1, 2))[:, None]):
        return (_penultimate(vision, pixels) - black) * mask


def patch_mask(vision: CLIPVisionModel, mask: Tensor) -> Tensor:
    """(B, h, w) -> (B, patches + 1, 1): bilinear to the size of the picture, nearest to patches, 1 for the class."""
    if mask.ndim != 3:
        raise ValueError(f"a mask must be (B, h, w), not {tuple(mask.shape)}")
    side = vision.config.image_size
    weight = vision.embeddings.patch_embedding.weight
    whole = F.interpolate(mask[:, None].to(weight), size=(side, side), mode="bilinear", align_corners=False)
    patches = F.interpolate(whole, size=(side // vision.config.patch_size,) * 2, mode="nearest").flatten(1)
    return F.pad(patches, (1, 0), value=1.0)[..., None]


def other_side(mask: Tensor) -> Tensor:
    """The background's patch mask for the person's; the class token belongs to both."""
    return torch.cat([mask[:, :1], 1 - mask[:, 1:]], dim=1)


def _penultimate(vision: CLIPVisionModel, pixels: Tensor) -> Tensor:
    return vision(pixels, output_hidden_states=True).hidden_states[-2]


@contextmanager
def _leaning(vision: CLIPVisionModel, bias: Tensor) -> Iterator[None]:
    """Adds (B, 1, N, N) to the logits of every layer; transformers' vision model itself takes no mask."""

    def hook(_module: object, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return arguments, {**named, "attention_mask": bias}

    with ExitStack() as hooks:
        for layer in vision.encoder.layers:
            handle = layer.self_attn.register_forward_pre_hook(hook, with_kwargs=True)
            hooks.callback(handle.remove)
        yield
