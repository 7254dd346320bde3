"""The same steps as the original computes them, for comparison: sixteen contexts, written-out attention, float32.

The original encodes every prompt once per cross-attention layer, with nothing but other noise on the vectors, and lets
each layer read its own (training.md 2.3 of the reference; ldm/modules/embedding_manager.py, attention.py). Its teacher runs
in half precision, as here. What it computes and throws away, VAE and CLIP passes for faces that nobody has, is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn

from adaface.distill.benchmarks.networks import Networks
from adaface.distill.compositions import Compositions
from adaface.distill.contexts import install_layer_contexts
from adaface.distill.data import prepare
from adaface.distill.features import cross_attentions
from adaface.distill.models import FrozenModels
from adaface.distill.plan import BatchPlan, IterationPlan
from adaface.distill.stage import Stage
from adaface.distill.stage1 import distillation_loss
from adaface.distill.subject_prompts import SubjectPrompts


class OriginalTask(nn.Module):
    """Stage 1's distillation computed that way; `networks` are as it needs them afterwards, for good.

    Attributes: as a DistillTask's.
    """

    def __init__(self, networks: Networks, stage: Stage, *, seed: int = 0) -> None:
        super().__init__()
        models = networks.models
        for network in (models.unet, models.text, models.vae):
            if network is not None:
                network.float()
        models.unet.set_attn_processor(AttnProcessor())
        for text in (models.text, networks.encoder.inverse, networks.encoder.teacher):
            text.set_attn_implementation("eager")
        install_layer_contexts(models.unet)
        self.encoder, self.stage = networks.encoder, stage
        self.plan = IterationPlan(seed, stage.plan)
        self.models = replace(models, precision="fp32", teacher=_HalfPrecision(models.teacher))
        self._prompts = LayerPrompts(self.models)
        self._templates = Compositions.load(stage.compositions).templates

    def forward(
        self, batch: BatchPlan, samples: Mapping[str, Any], first_slot: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        rows = self.plan.rows(batch, first_slot, len(samples["key"]))
        faces = prepare(self.models, self.plan, batch, rows, samples, first_slot)
        settings, weights = self.stage.distillation, self.stage.losses
        return distillation_loss(
            self.models, self.encoder, self._prompts, self.plan, batch, rows, faces, settings, weights, self._templates
        )


class LayerPrompts(SubjectPrompts):
    """Every prompt once per layer."""

    def __init__(self, models: FrozenModels) -> None:
        super().__init__(models)
        self._layers = len(cross_attentions(models.unet))

    def states(
        self,
        tokens: Tensor,
        slots: Tensor | None,
        vectors: Tensor | None,
        clip_skip: Sequence[float] | None,
        *others: Any,
    ) -> Tensor:
        """(B, L, T, D)."""
        repeated = [x.repeat_interleave(self._layers, 0) if x is not None else None for x in (tokens, slots, vectors)]
        states = super().states(repeated[0], repeated[1], repeated[2], clip_skip, *others)  # type: ignore[arg-type]
        return states.unflatten(0, (-1, self._layers))


class _HalfPrecision(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @property
    def config(self) -> Any:
        return self.network.config

    def forward(self, *inputs: Any) -> Any:
        with torch.autocast(next(self.network.parameters()).device.type, torch.bfloat16):
            return self.network(*inputs)
