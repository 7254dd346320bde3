"""Cosines of pictures to texts, as CLIP itself gives them."""

from __future__ import annotations

import torch
from transformers import CLIPModel, CLIPTokenizer

from adaface.distill.clip_score import ClipScore
from adaface.miniature.shipped import WEIGHTS

TEXTS = ["a photo of a woman", "a drawing of a man wearing a hat", "a photo of a horse"]


def test_cosines_are_those_of_the_model() -> None:
    score = ClipScore("package://adaface.miniature/weights/clip")
    pixels = torch.randint(0, 256, (3, 3, 64, 64), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    found = score(pixels.float() / 127.5 - 1, TEXTS)
    clip = CLIPModel.from_pretrained(WEIGHTS / "clip", dtype=torch.float32).eval()
    tokens = CLIPTokenizer.from_pretrained(WEIGHTS / "clip")(
        TEXTS, padding="max_length", max_length=77, return_tensors="pt"
    )

    # the smallest CLIPs have values in -1..1
    with torch.no_grad():
        logits = clip(pixel_values=pixels / 127.5 - 1, **tokens).logits_per_image
    expected = logits.diagonal() / clip.logit_scale.exp()
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-4)
    assert found.dtype == torch.float32 and len(set(found.tolist())) == 3


def test_pictures_outside_of_the_range_are_cut() -> None:
    score = ClipScore("package://adaface.miniature/weights/clip")
    pictures = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2)) * 4 - 2
    assert torch.equal(score(pictures, TEXTS[:1]), score(pictures.clamp(-1, 1), TEXTS[:1]))
