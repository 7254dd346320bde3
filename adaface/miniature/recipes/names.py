"""Stable Diffusion goes on, and learns people by their names.

Words for features say too little: free vectors in the place of the subject reached 64 % of the teacher's identity gap
in a Stable Diffusion that was taught with nothing else. The real one has read the names of very many people, and text
can tell it nearly anybody; that is what distillation lives on.

It starts between itself and the teacher, which knows faces best, and learns what portraits look like from the teacher's
answers; a part of them it is shown with the teacher's own text states. The real kinship runs the other way only:
Arc2Face was made from Stable Diffusion, and Stable Diffusion learned nothing from it. Where both have an hour for what
took the real ones months, this is how they come to share it.
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
from adaface.miniature.training import Schedule, autocast

_OF_THE_TEACHER = 0.7  # share of the teacher's UNet in the one that the training starts with
_TEACHERS_STATES = 0.25  # share of the portraits that are shown with the teacher's text states


class NamesTask(StableDiffusionTask):
    name = "names"
    schedule = Schedule(steps=4000, batch=64, lr=5.0e-4, warmup=100, ema=0.999)
    plain_share = 0.5
    named = 0.6

    def __init__(self, data: Path, weights: Path, device: torch.device):
        super().__init__(data, weights, device)
        self.load(weights)
        teacher, text, _ = load_teacher(weights)
        known = teacher.state_dict()
        with torch.no_grad():
            for name, tensor in self.unet.state_dict().items():
                tensor.lerp_(known[name].to(device), _OF_THE_TEACHER)
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
        count = round(len(rows) * _TEACHERS_STATES)
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
