"""The compositional teacher's text: the class prompt, with more of the subject in deeper layers and at later times.

A teacher that knows the class word alone draws anybody; one that also knows the subject composes as badly as the
student. U: mix_static_vk_embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from adaface.distill.problems import raise_for, share_problems
from adaface.encoder.gradient_scale import scale_gradient


@dataclass(frozen=True)
class MixSettings:
    """How much of the class is in the teacher's text.

    Attributes:
        keys: share of the class in the keys of the last layer, at the subject's slots.
        values: the same of the values, for pictures that start from the person's own.
        values_from_noise: the same, for pictures that start from noise.
        gradient: share of the gradient that reaches both prompts through the mix.
        decline: by how much the influence of the time falls in the course of a run.
        subject: the subject's part in all of this; 0: the teacher is told the class prompt and nothing else.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    keys: float = 0.8
    values: float = 0.7
    values_from_noise: float = 0.6
    gradient: float = 0.05
    decline: float = 0.3
    subject: float = 1.0

    def __post_init__(self) -> None:
        shares = share_problems(self, "keys", "values", "values_from_noise", "gradient", "decline", "subject")
        raise_for("the teacher's text", shares)


def mixed_contexts(
    subject: Tensor,
    class_prompt: Tensor,
    slots: Tensor,
    time: Tensor,
    *,
    layers: int,
    first: int,
    progress: float,
    from_person: Tensor | bool = True,
    settings: MixSettings | None = None,
) -> Tensor:
    """Contexts (B, L, 2, T, D) of values and keys for `layer_contexts`.

    In layer j, at the slots: X_j = gs(a_j class + (1 - a_j) subject), a_j = 1 before layer `first` and from there on
    falling linearly to the settings' share, which differs between values and keys; the class prompt elsewhere, also
    through gs. From layer `first` on the context is m subject + (1 - m) X_j with m = 1 - t (1 - decline * progress).

    Args:
        subject, class_prompt: text states (B, T, D), or (B, L, T, D) with one per layer.
        slots: (B, T) bool, the subject's tokens; in the class prompt the class's, see `class_tokens`.
        time: (B,) timesteps as a share of 1000.
        layers: L, the number of cross-attention layers.
        first: the first layer with a part of the subject: `loss_places(unet)[0].index`.
        progress: of the run, in 0..1.
        from_person: whether pictures start from the person's own; one for all, or (B,) bool.
        settings: the original's by default.
    """
    settings = settings or MixSettings()
    # (B, L, T, D), with 1 for L where all layers read the same
    subject, class_prompt = (x.unsqueeze(1) if x.ndim == 3 else x for x in (subject, class_prompt))
    depth = torch.arange(layers, device=subject.device) - first
    ramp = (depth / max(layers - first - 1, 1)).clamp(min=0)  # (L,)
    person = torch.as_tensor(from_person, device=subject.device).expand(len(subject))
    values = torch.where(person, settings.values, settings.values_from_noise)
    ends = torch.stack([values, torch.full_like(values, settings.keys)], dim=1)  # (B, 2)
    share = 1 - settings.subject * ramp[None, :, None] * (1 - ends[:, None])  # (B, L, 2)
    at_slots = slots[:, None, None, :, None]  # (B, 1, 1, T, 1)
    share = torch.where(at_slots, share[..., None, None], 1.0)  # (B, L, 2, T, 1)
    mixed = share * class_prompt.unsqueeze(2) + (1 - share) * subject.unsqueeze(2)
    mixed = scale_gradient(mixed, settings.gradient)  # (B, L, 2, T, D)
    whole = (1 - time.to(ramp) * (1 - settings.decline * progress))[:, None] * (depth >= 0) * settings.subject
    whole = whole[:, :, None, None, None]  # (B, L, 1, 1, 1)
    return (whole * subject.unsqueeze(2) + (1 - whole) * mixed).to(subject.dtype)


def same_contexts(states: Tensor, layers: int) -> Tensor:
    """(B, T, D) or (B, L, T, D) -> (B, L, 2, T, D), values and keys alike: rows beside mixed ones. Takes no memory."""
    per_layer = states.unsqueeze(1).expand(-1, layers, -1, -1) if states.ndim == 3 else states
    return per_layer.unsqueeze(2).expand(-1, -1, 2, -1, -1)
