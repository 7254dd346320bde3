"""What is trained and what it is trained for, as one module: a batch of a plan goes in, its loss comes out.

Being a module, it can be wrapped for training on several GPUs. Its parameters are the encoder's; the networks that stay
as they are are not part of it.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from adaface.distill.background import BackgroundFeatures
from adaface.distill.compositions import Compositions
from adaface.distill.data import prepare
from adaface.distill.models import FrozenModels, frozen
from adaface.distill.photo_reconstruction import reconstruction_loss
from adaface.distill.plan import BatchPlan, IterationPlan
from adaface.distill.stage import Stage
from adaface.distill.stage1 import distillation_loss
from adaface.distill.stage2 import Compositional, composition_loss
from adaface.distill.subject_prompts import SubjectPrompts
from adaface.encoder.model import AdaFaceEncoder


class DistillTask(nn.Module):
    """See the module.

    Args:
        encoder: as it is at the beginning of the run, not only of this process: its copy is stage 2's anchor.
        clip: picture and text -> cosines for the teacher filter of stage 2; None: nothing is filtered.
        background: features for the encoder's background generator; None: prompts have no background token.

    Attributes: `encoder`, `plan`, `stage`, `models`.
    """

    def __init__(
        self,
        models: FrozenModels,
        encoder: AdaFaceEncoder,
        stage: Stage,
        *,
        seed: int,
        clip: Any | None = None,
        background: BackgroundFeatures | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.stage = stage
        self.plan = IterationPlan(seed, stage.plan)
        self._models = (models,)  # in a tuple, a module is no part of this one
        self._background = background if encoder.background is not None else None
        self._prompts = SubjectPrompts(models)
        self._compositions = Compositions.load(stage.compositions)
        self._composer: tuple[Compositional, ...] = ()
        if stage.plan.compositional_every:
            # one teacher for both: it never changes
            anchor = copy.deepcopy(encoder, {id(encoder.teacher): encoder.teacher})
            frozen(anchor)
            self._composer = (Compositional(models, anchor, self._prompts, self._compositions, clip),)

    @property
    def models(self) -> FrozenModels:
        return self._models[0]

    def forward(
        self, batch: BatchPlan, samples: Mapping[str, Any], first_slot: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one batch, and numbers for the log.

        Args:
            batch: of `plan`, the same on all workers.
            samples: this worker's, see `adaface.distill.data.prepare`.
            first_slot: place of the first of them among those of all workers.
        """
        if self._background is None:
            batch = dataclasses.replace(batch, background=False)
        count = len(samples["key"])
        rows = self.plan.rows(batch, first_slot, count)
        faces = prepare(self.models, self.plan, batch, rows, samples, first_slot, self._background)
        if batch.kind == "compositional":
            return composition_loss(self._composer[0], self.encoder, self.plan, batch, rows, faces, self.stage)
        if batch.kind == "reconstruction":
            return reconstruction_loss(
                self.models, self.encoder, self._prompts, self.plan, batch, rows, faces, self.stage,
                self._compositions,
            )  # fmt: skip
        return distillation_loss(
            self.models,
            self.encoder,
            self._prompts,
            self.plan,
            batch,
            rows,
            faces,
            self.stage.distillation,
            self.stage.losses,
            self._compositions.templates,
        )
