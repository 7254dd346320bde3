"""Stable Diffusion goes on, and learns people by their names.

Words for features say too little: free vectors in the place of the subject reached 64 % of the teacher's identity gap
in a Stable Diffusion that was taught with nothing else. The real one has read the names of very many people, and text
can tell it nearly anybody; that is what distillation lives on.

It starts between itself and the first teacher, which knows faces best, and learns what portraits look like from that
teacher's answers; a part of them it is shown with the teacher's own text states. The real Stable Diffusion learned
nothing from Arc2Face. Where both have hours for what took the real ones months, this is how they come to share it; the
teacher that students get is then made from the result, as in reality.

Three parts, each from what the one before it exported: the more portraits there are in the batches, the better people
are known, and scenes last only where they were learned well first.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from adaface.encoder.teacher import teacher_states
from adaface.miniature.measure.generators import gate, gate_of_names
from adaface.miniature.networks.diffusion import attend_plainly, load_teacher
from adaface.miniature.recipes.diffusion import StableDiffusionTask
from adaface.miniature.recipes.teacher import PHOTOS_OF_ONE, identities_of
from adaface.miniature.training import Schedule
from adaface.models.precision import autocast


class FirstNamesTask(StableDiffusionTask):
    """The first part, with as many scenes as portraits.

    Attributes:
        of_the_teacher: share of the teacher's UNet in the one that the training starts with.
        teachers_states: share of the portraits that are shown with the teacher's text states.
    """

    name = "names_first"
    schedule = Schedule(steps=4000, batch=64, lr=5.0e-4, warmup=100, ema=0.999)
    plain_share = 0.5
    named = 0.6
    of_the_teacher = 0.7
    teachers_states = 0.25

    def __init__(self, data: Path, weights: Path, device: torch.device):
        super().__init__(data, weights, device)
        self.load(weights)
        teacher, text, _ = load_teacher(weights)
        known = teacher.state_dict()
        with torch.no_grad():
            for name, tensor in self.unet.state_dict().items():
                tensor.lerp_(known[name].to(device), self.of_the_teacher)
        attend_plainly(teacher)
        self.teacher = teacher.to(device).requires_grad_(False)
        self.teacher_text = text.to(device).requires_grad_(False)

    @cached_property
    def identities(self) -> np.ndarray:
        """float32 (people, 64): unit ID embeddings of the people of the plain portraits, each a mean over photographs."""
        each = identities_of(self.data, self.weights).astype(np.float32)
        mean = each.reshape(-1, PHOTOS_OF_ONE, each.shape[1]).mean(1)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)

    def lr_scale(self, module: str) -> float:
        return 0.8 if module == "text" else 1.0

    def shown(self, states: Tensor, rows: np.ndarray) -> Tensor:
        """A share of the portraits goes with the teacher's text states, so that the UNet goes on to read those, too."""
        count = round(len(rows) * self.teachers_states)
        return torch.cat([self._identity_states(rows[:count]).to(states.dtype), states[count:]])

    def _identity_states(self, rows: np.ndarray) -> Tensor:
        identity = torch.from_numpy(self.identities[rows // PHOTOS_OF_ONE]).to(self.device)
        with torch.no_grad():
            return teacher_states(self.teacher_text, self.tokenizer, identity)

    def target(self, noisy: Tensor, t: Tensor, noise: Tensor, rows: np.ndarray) -> Tensor:
        """What the teacher sees in the plain portraits, which `rows` of them come first in the batch; else the noise.

        Whatever a caption says of a person, the mean of the teacher's answers over all whom it fits is the right one;
        and it takes far fewer pictures to learn from answers than from noise.
        """
        plain = len(rows)
        with torch.no_grad(), autocast(self.device):
            answers = self.teacher(noisy[:plain], t[:plain], self._identity_states(rows)).sample.float()
        return torch.cat([answers, noise[plain:]])

    def evaluate(self) -> dict[str, float]:
        models = self.unet, self.text, self.tokenizer, self.weights
        return {**gate(*models), **gate_of_names(*models)}


class MoreNamesTask(FirstNamesTask):
    name = "names_second"
    schedule = Schedule(steps=4000, batch=64, lr=4.0e-4, warmup=100, ema=0.999)
    plain_share = 0.65
    of_the_teacher = 0.0
    teachers_states = 0.35


class NamesTask(MoreNamesTask):
    name = "names"
    schedule = Schedule(steps=1300, batch=64, lr=3.0e-4, warmup=50, ema=0.999)
    of_the_teacher = 0.2
