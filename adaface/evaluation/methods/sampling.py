"""Text states and seeds -> pictures, with the protocol's sampler: DDIM, eta 0, guidance that falls in a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from adaface.subjects.guidance import annealed_guidance

if TYPE_CHECKING:
    from adaface.evaluation.config import GenerationConfig


@torch.no_grad()
def draw(
    pipe: Any,
    generation: GenerationConfig,
    positive: Sequence[Tensor],
    negative: Tensor,
    seeds: Sequence[int],
    *,
    guidance: tuple[float, float] | None = None,
) -> list[np.ndarray]:
    """One picture per seed, all in one batch.

    A picture depends on its states and its seed. What else is in the batch, and where in it the picture stands, reaches
    the last bits of float32 at most, through the order in which sums of such a size are taken.

    Args:
        pipe: a text-to-image pipeline from `load_base`.
        positive: (T, D) text states of each picture.
        negative: (T, D) text states that guidance leads away from.
        seeds: of each picture's noise, drawn for it alone on the CPU: the same on every device. PyTorch's generator
            reads the lower 32 bits.
        guidance: scales of the first and the last step, those of `generation` by default.

    Returns:
        RGB uint8 (H, W, 3) each.

    Raises ValueError where a picture has values that are no numbers.
    """
    if not seeds:
        return []
    start, end = guidance or generation.guidance
    side = pipe.unet.config.sample_size * pipe.vae_scale_factor
    scales = annealed_guidance(start, end) if start != end else {"guidance_scale": start}
    pixels = pipe(
        prompt_embeds=torch.stack(list(positive)),
        negative_prompt_embeds=negative.expand(len(seeds), -1, -1),
        num_inference_steps=generation.steps,
        eta=0.0,
        width=generation.width or side,
        height=generation.height or side,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        output_type="np",
        **scales,
    ).images
    spoilt = [str(seed) for seed, picture in zip(seeds, pixels, strict=True) if not np.isfinite(picture).all()]
    if spoilt:
        raise ValueError(
            f"the pictures of the seeds {', '.join(spoilt)} have values that are no numbers; the weights of the model are "
            "broken, or half precision is too little for it (then set generation.device to cpu)"
        )
    return [np.rint(picture * 255).astype(np.uint8) for picture in pixels]
