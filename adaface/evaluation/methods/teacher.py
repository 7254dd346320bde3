"""The teacher, Arc2Face: its own UNet and text encoder draw an ID embedding, through the base model's VAE.

It cannot read a prompt, so it draws a portrait for every one of them: the most identity there is, and no text at all.
Guidance leads away from the empty prompt, as its authors sample it (gradio_demo/app.py of Arc2Face, which leaves the
negative prompt to diffusers) and as it was trained to, with the ID embedding dropped now and then.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from adaface.encoder.teacher import teacher_states
from adaface.evaluation.methods.base import BasePipe, Request, known_ids
from adaface.evaluation.methods.model_files import hashes_below, hub_name, local_folder, tokenizer_hashes
from adaface.evaluation.methods.sampling import draw
from adaface.model_path import PREFIX, model_path
from adaface.models.whole import load_model, load_tokenizer
from adaface.subjects.faces_of import mean_id

if TYPE_CHECKING:
    from adaface.evaluation.config import GenerationConfig, TeacherConfig
    from adaface.evaluation.subjects import Subject


class TeacherMethod:
    """A `Method`.

    Raises ValueError for parts that do not belong together, FileNotFoundError for those that are not there.
    """

    def __init__(self, config: TeacherConfig, base: BasePipe, generation: GenerationConfig):
        self.name, self.config, self.base, self.generation = config.name, config, base, generation
        self._pipe = _teacher_pipe(config, base.pipe)
        self._negative = _empty_prompt(self._pipe)

    @torch.no_grad()
    def prepare(self, subject: Subject, photos: list[np.ndarray], ids: np.ndarray) -> Tensor:
        """(77, D) text states of the subject's mean ID embedding.

        Raises ValueError without an ID embedding, and for one that the teacher cannot read.
        """
        try:
            identity = mean_id(known_ids(subject.name, ids))[None].to(self._pipe.device)
            return teacher_states(self._pipe.text_encoder, self._pipe.tokenizer, identity)[0]
        except ValueError as error:
            raise ValueError(f"method {self.name}: {error}") from error

    def draw(self, prepared: Tensor, requests: Sequence[Request]) -> list[np.ndarray]:
        """RGB uint8 (H, W, 3) each. The prompts are not read."""
        seeds = [request.seed for request in requests]
        return draw(
            self._pipe,
            self.generation,
            [prepared] * len(seeds),
            self._negative,
            seeds,
            guidance=self.config.guidance,
        )

    def provenance(self) -> dict[str, Any]:
        """`files` are those of the teacher, `base_files` those of the model whose VAE it draws through."""
        named = {
            "unet": self.config.unet,
            "text_encoder": self.config.text_encoder,
            "tokenizer": self.config.tokenizer,
        }
        files: dict[str, str] = {}
        for part, name in named.items():
            place = local_folder(name) if name is not None else None
            if place is not None:
                hashes = tokenizer_hashes(place) if part == "tokenizer" else hashes_below(place)
                files |= {f"{part}/{file}": digest for file, digest in hashes.items()}
        return {
            "kind": "teacher",
            **named,
            "files": files,
            "guidance": list(self.config.guidance or self.generation.guidance),
            "base": self.base.base,
            "base_files": self.base.files(),
        }


def _teacher_pipe(config: TeacherConfig, base: Any) -> Any:
    """A pipeline of the teacher's parts and the base's VAE, on the base's device and in its precision."""
    from diffusers import UNet2DConditionModel
    from diffusers.utils import is_accelerate_available
    from transformers import CLIPTextModel

    # to diffusers it is said, to spare its warning
    unet = _load(config.unet, UNet2DConditionModel, "UNet", base.dtype, low_cpu_mem_usage=is_accelerate_available())
    text = _load(config.text_encoder, CLIPTextModel, "CLIP text model", base.dtype)
    width, words = text.config.hidden_size, text.get_input_embeddings().num_embeddings
    tokenizer = base.tokenizer
    if config.tokenizer is not None:
        where, options = _source(config.tokenizer)
        tokenizer = load_tokenizer(where, words, **options)
    problems = []
    if unet.config.cross_attention_dim != width:
        problems.append(f"its UNet reads text states of {unet.config.cross_attention_dim} values and gets {width}")
    if unet.config.in_channels != base.unet.config.in_channels:
        problems.append(
            f"its UNet draws latents of {unet.config.in_channels} channels, and the VAE of the base reads "
            f"{base.unet.config.in_channels}"
        )
    if len(tokenizer) > words:
        problems.append(f"its tokenizer has {len(tokenizer)} words and its text encoder {words}")
    if problems:
        raise ValueError(f"method {config.name}: {'; '.join(problems)}")
    parts = {
        "unet": unet.eval().to(base.device),
        "text_encoder": text.eval().to(base.device),
        "tokenizer": tokenizer,
        "scheduler": type(base.scheduler).from_config(base.scheduler.config),  # it keeps a state while it draws
    }
    pipe = type(base)(**(base.components | parts), requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _load(name: str, kind: Any, what: str, dtype: torch.dtype, **more: Any) -> Any:
    where, options = _source(name)
    return load_model(kind, where, what, dtype=dtype, **options, **more)


def _source(name: str) -> tuple[str, dict[str, str]]:
    """(folder or repository of the hub, arguments for from_pretrained). Raises FileNotFoundError for no such folder."""
    path = model_path(name)
    if path.is_dir():
        return str(path), {}
    if name.startswith((PREFIX, "/", ".", "~")) or "/" not in name or Path(name).exists():
        raise FileNotFoundError(f"{name}: no such folder of a model")
    repository, inside = hub_name(name)
    return repository, {"subfolder": inside} if inside else {}


@torch.no_grad()
def _empty_prompt(pipe: Any) -> Tensor:
    """(77, D), the last states after the final norm, as diffusers takes them for no negative prompt."""
    tokens = pipe.tokenizer("", padding="max_length", truncation=True, return_tensors="pt").input_ids
    return pipe.text_encoder(tokens.to(pipe.device)).last_hidden_state[0]
