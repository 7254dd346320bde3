"""The samples of a batch as the steps take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from adaface.distill.background import BackgroundFeatures
from adaface.distill.draws import normal
from adaface.distill.models import FrozenModels
from adaface.distill.plan import BatchPlan, IterationPlan, Row


@dataclass(frozen=True)
class Faces:
    """B samples that are computed, on the device of the networks; h, w are those of the latents.

    Attributes:
        latents: (B, 4, h, w) float32, scaled as the UNet wants them.
        ids: (B, id_dim) float32 unit ID embeddings.
        foreground: (B, 1, h, w) float32 in 0..1, the person; None: everything is.
        valid: (B, 1, h, w), 0 in the border that augmentation left; None: there is none.
        has_mask: (B,) bool, whether `foreground` was seen by somebody and is not just everything.
        person_types: what to call them in prompts, "young woman" for example.
        keys: of the samples in the dataset.
        around: (B, N, W) CLIP features of what is around them, where the batch's prompts have a background token.
    """

    latents: Tensor
    ids: Tensor
    foreground: Tensor | None
    valid: Tensor | None
    has_mask: Tensor
    person_types: tuple[str, ...]
    keys: tuple[str, ...]
    around: Tensor | None = None

    def __len__(self) -> int:
        return len(self.latents)


def prepare(
    models: FrozenModels,
    plan: IterationPlan,
    batch: BatchPlan,
    rows: Sequence[Row],
    samples: Mapping[str, Any],
    first_slot: int,
    background: BackgroundFeatures | None = None,
) -> Faces:
    """What a batch's losses need of a worker's samples, and nothing that they do not look at.

    Latents are a sample of the VAE's posterior, whose noise belongs to the slot of the sample; of faces that nobody has
    there is no picture to encode, and `latents` are zeros of the right shape.

    Args:
        rows: which of the samples are computed.
        samples: of `data_pipeline.stream.collate`: "person_mask", "valid_mask" uint8 (B, S, S), "has_person_mask" bool
            (B,), "id_embedding" (B, id_dim), "person_type", "key", and "image" uint8 (B, S, S, 3) or "latent"
            (B, 8, h, w), mean and deviation of the posterior.
        first_slot: of the first sample.
        background: reads what is around people, where the batch asks for it.
    """
    device = models.device
    sources = [row.source for row in rows]
    used = sorted(set(sources))
    at = torch.tensor([used.index(source) for source in sources], device=device)
    latents = _latents(models, plan, batch, used, samples, first_slot)
    size = latents.shape[-2:]

    def chosen(name: str) -> Tensor:
        return _some(samples[name], used).to(device, non_blocking=True)[at]

    around = None
    if background is not None and batch.background:
        around = background(_some(samples["image"], used), _some(samples["person_mask"], used))[at]
    return Faces(
        latents=latents[at],
        ids=chosen("id_embedding").float(),
        foreground=_smaller(chosen("person_mask"), size),
        valid=_smaller(chosen("valid_mask"), size),
        has_mask=chosen("has_person_mask"),
        person_types=tuple(samples["person_type"][source] for source in sources),
        keys=tuple(samples["key"][source] for source in sources),
        around=around,
    )


def _latents(
    models: FrozenModels,
    plan: IterationPlan,
    batch: BatchPlan,
    used: list[int],
    samples: Mapping[str, Any],
    first_slot: int,
) -> Tensor:
    """(U, 4, h, w) float32, one for each sample that is used."""
    channels, side = models.unet.config.in_channels, models.unet.config.sample_size
    if batch.kind == "random_id":
        return torch.zeros(len(used), channels, side, side, device=models.device)
    slots = [Row(source, first_slot + source) for source in used]
    noise = normal(plan.generators(batch, slots, "posterior"), (channels, side, side), device=models.device)
    if "latent" in samples:
        latents = _some(samples["latent"], used).to(models.device, non_blocking=True)
        mean, deviation = latents.float().chunk(2, dim=1)
        return (mean + deviation * noise) * models.latent_scale
    pictures = _some(samples["image"], used).to(models.device, non_blocking=True)
    return models.encode(pictures.permute(0, 3, 1, 2).float() / 127.5 - 1, noise)


def _some(values: Tensor, used: list[int]) -> Tensor:
    """Those of the samples that are used, before anything is copied to a GPU; a whole batch stays in its locked pages."""
    return values if used == list(range(len(values))) else values[used]


def _smaller(mask: Tensor, size: Sequence[int]) -> Tensor:
    """uint8 (B, S, S) -> float32 (B, 1, h, w), the nearest pixel, as the original."""
    return F.interpolate(mask[:, None].float(), size=tuple(size), mode="nearest")
