"""Stable Diffusion goes on, and learns people by their names.

Words for features say too little: free vectors in the place of the subject reached 64 % of the teacher's identity gap
in a Stable Diffusion that was taught with nothing else. The real one has read the names of very many people, and text
can tell it nearly anybody; that is what distillation lives on.

It starts between itself and the teacher, which knows faces best. The real kinship runs the other way only: Arc2Face was
made from Stable Diffusion, and Stable Diffusion learned nothing from it. In a world where both are trained within the
hour, this is how they come to share what they know of faces.
"""

from __future__ import annotations

from pathlib import Path

import torch

from adaface.miniature.measure.generators import gate, gate_of_names
from adaface.miniature.networks.diffusion import load_teacher
from adaface.miniature.recipes.diffusion import StableDiffusionTask
from adaface.miniature.training import Schedule

_OF_THE_TEACHER = 0.7  # share of the teacher's UNet in the one that the training starts with


class NamesTask(StableDiffusionTask):
    name = "names"
    schedule = Schedule(steps=3000, batch=64, lr=5.0e-4, warmup=100, ema=0.999)
    plain_share = 0.5
    named = 0.6

    def __init__(self, data: Path, weights: Path, device: torch.device):
        super().__init__(data, weights, device)
        self.load(weights)
        teacher = load_teacher(weights)[0].to(device)
        with torch.no_grad():
            for name, tensor in self.unet.state_dict().items():
                tensor.lerp_(teacher.state_dict()[name], _OF_THE_TEACHER)

    def evaluate(self) -> dict[str, float]:
        models = self.unet, self.text, self.tokenizer, self.weights
        return {**gate(*models), **gate_of_names(*models)}
