"""A few people, drawn again and again in the course of a run: what one looks at before any number.

One row per person: the photo, the teacher's picture, the encoder's, then a composition with the class word and with the
subject. Noise and prompts stay the same from panel to panel.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from adaface.distill.models import FrozenModels
from adaface.distill.stage1 import teacher_states
from adaface.distill.task import DistillTask
from adaface.subjects.guidance import annealed_guidance
from adaface.subjects.subject import load_adaface

_STEPS, _GUIDANCE = 20, (4.0, 1.0)
_SEED = 20_000  # of the first person's noise
_SMALLEST = 128  # px; smaller pictures are enlarged, or nobody could see them


@dataclass(frozen=True)
class Panel:
    """P people.

    Attributes:
        photos: RGB uint8 (H, W, 3) each.
        ids: (P, id_dim) float32.
        person_types: what to call them.
        portrait: prompt with `{}` for the subject.
        compositions: one for each person, with `{}` too.
    """

    photos: tuple[np.ndarray, ...]
    ids: Tensor
    person_types: tuple[str, ...]
    portrait: str
    compositions: tuple[str, ...]


@torch.no_grad()
def draw_panel(task: DistillTask, panel: Panel, step: int) -> bytes:
    """PNG of the panel. The encoder is left in the mode that it was in."""
    models, encoder = task.models, task.encoder
    training = encoder.training
    encoder.eval()
    try:
        pipe = _pipe(models, models.unet)
        adaface = load_adaface(pipe, encoder)
        rows = []
        ids = panel.ids.to(models.device)
        teacher = _draw(_pipe(models, models.teacher), teacher_states(models, encoder, ids), _plain(pipe, ""))
        for number, photo in enumerate(panel.photos):
            person = panel.person_types[number]
            subject = adaface.subject(ids=panel.ids[number])
            prompts = [panel.portrait.format("z"), panel.compositions[number].format("z")]
            told = subject.prompt(prompts, negative_prompt=None)["prompt_embeds"]
            words = torch.cat([told, _plain(pipe, panel.compositions[number].format(person))])
            drawn = _draw(pipe, words, _plain(pipe, ""), first=number, same_noise=True)
            side = drawn[0].width
            cells = [_square(photo, side), teacher[number], drawn[0], drawn[2], drawn[1]]
            rows.append(np.concatenate([np.asarray(cell) for cell in cells], axis=1))
    finally:
        encoder.train(training)
    sheet = Image.fromarray(np.concatenate(rows))
    factor = max(1, -(-_SMALLEST // (sheet.width // 5)))
    if factor > 1:
        sheet = sheet.resize((sheet.width * factor, sheet.height * factor), Image.Resampling.NEAREST)
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


def _pipe(models: FrozenModels, unet: Any) -> Any:
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    if models.vae is None:
        raise ValueError("a panel needs the VAE")
    kept = models.schedule.alphas_cumprod.cpu()
    betas = (1 - kept / torch.cat([torch.ones(1, dtype=kept.dtype), kept[:-1]])).float().numpy()
    scheduler = DDIMScheduler(trained_betas=betas, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    pipe = StableDiffusionPipeline(
        vae=models.vae,
        text_encoder=models.text,
        tokenizer=models.tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _plain(pipe: Any, prompt: str) -> Tensor:
    states: Tensor = pipe.encode_prompt(prompt, pipe.device, 1, False)[0]
    return states


def _draw(pipe: Any, states: Tensor, empty: Tensor, *, first: int = 0, same_noise: bool = False) -> list[Image.Image]:
    side = pipe.unet.config.sample_size * pipe.vae_scale_factor
    seeds = [_SEED + first + (0 if same_noise else number) for number in range(len(states))]
    drawn: list[Image.Image] = pipe(
        prompt_embeds=states.to(pipe.unet.dtype),
        negative_prompt_embeds=empty.to(pipe.unet.dtype).expand_as(states),
        num_inference_steps=_STEPS,
        height=side,
        width=side,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        **annealed_guidance(*_GUIDANCE),
    ).images
    return drawn


def _square(photo: np.ndarray, side: int) -> Image.Image:
    return Image.fromarray(photo).resize((side, side), Image.Resampling.BICUBIC)
