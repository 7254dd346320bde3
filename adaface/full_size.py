"""The whole chain at the sizes of Stable Diffusion 1.5, with random weights: does it run here, how long, in how much
memory? `adaface doctor --full-size`.

One person, one prompt, two DDIM steps with guidance at 512 x 512 on the CPU: what the real models ask for but for the
reading of their files. The picture means nothing.
"""

from __future__ import annotations

import gc
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline
from torch import nn
from transformers import CLIPTokenizer

from adaface.encoder.config import EncoderConfig
from adaface.encoder.model import AdaFaceEncoder
from adaface.model_path import model_path
from adaface.random_networks import TOKENIZER, NetworkSizes, default_dtype, random_text_model, random_unet
from adaface.subjects.subject import load_adaface

LIMIT = 16e9  # bytes of memory that all of it may take
PROMPT = "a photo of z riding a horse"


@dataclass(frozen=True)
class Sizes(NetworkSizes):
    """Of the models and of the run."""

    side: int = 512  # of the picture, px
    steps: int = 2
    needed: float = 6e9  # bytes that must be free; 4.7 GB were measured on one thread


@dataclass(frozen=True)
class Stage:
    """One part of the run."""

    name: str
    seconds: float
    said: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.seconds:.1f} s" + (f", {self.said}" if self.said else "")


def measure(sizes: Sizes | None = None, say: Callable[[str], None] = lambda _: None) -> tuple[list[Stage], int]:
    """Build everything and draw one picture; `say` is told each stage when it is done.

    Returns:
        the stages, and the most memory that this process has held, in bytes.

    Raises:
        MemoryError: too little memory is free; nothing was built.
        RuntimeError: the picture is not made of finite numbers.
    """
    sizes = sizes or Sizes()
    free = free_memory()
    if free is not None and free < sizes.needed:
        raise MemoryError(
            f"{free / 1e9:.1f} GB of memory are free and this takes up to {sizes.needed / 1e9:.0f}; end other programs, "
            "or run it on a larger machine"
        )
    stages: list[Stage] = []

    @contextmanager
    def timed(name: str, *notes: str) -> Iterator[list[str]]:
        said = list(notes)
        start = time.perf_counter()
        yield said
        stages.append(Stage(name, time.perf_counter() - start, ", ".join(said)))
        say(str(stages[-1]))

    torch.manual_seed(0)
    pipe = _build_pipeline(sizes, timed)
    encoder = _build_encoder(sizes, pipe.tokenizer, timed)
    gc.collect()
    with timed("subject", "ID embedding -> 16 vectors, float32, once per person"):
        ids = F.normalize(torch.randn(1, sizes.id_dim), dim=-1)
        subject = load_adaface(pipe, encoder).subject(ids=ids)
    with timed("prompt", "text states with the vectors in it, and those of the negative prompt"):
        states = subject.prompt(PROMPT)
    _draw(pipe, states, sizes, timed)
    return stages, peak_memory()


def free_memory() -> int | None:
    """Bytes that this process may still take; None where the system does not say."""
    system = Path("/proc/meminfo")
    if not system.is_file():
        return None
    values = {
        line.split(":")[0]: int(line.split()[1]) * 1024 for line in system.read_text().splitlines() if "kB" in line
    }
    free = values.get("MemAvailable")
    group = Path("/sys/fs/cgroup")  # in a container
    try:
        limit = int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return free
    return limit if free is None else min(free, limit)


def peak_memory() -> int:
    """The most memory this process has held, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


Timed = Callable[..., Any]


def _build_pipeline(sizes: Sizes, timed: Timed) -> StableDiffusionPipeline:
    """All of it in bfloat16: pipelines want one dtype."""
    tokenizer = CLIPTokenizer.from_pretrained(model_path(TOKENIZER))
    with timed("UNet") as said:
        unet = random_unet(sizes, torch.bfloat16)
        said.append(_described(unet))
    with timed("VAE") as said, default_dtype(torch.bfloat16):
        vae = AutoencoderKL(**sizes.vae).eval()
        said.append(_described(vae))
    with timed("text encoder") as said, default_dtype(torch.bfloat16):
        text = random_text_model(sizes, tokenizer)
        said.append(_described(text))
    pipe = StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet, safety_checker=None, feature_extractor=None,
        scheduler=DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
        ),
        requires_safety_checker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _build_encoder(sizes: Sizes, tokenizer: Any, timed: Timed) -> AdaFaceEncoder:
    with timed("AdaFace encoder") as said:
        multipliers = [sizes.multiplier] * sizes.text["num_hidden_layers"]
        config = EncoderConfig.for_tokenizer(
            tokenizer, id_dim=sizes.id_dim, text=dict(sizes.text), multipliers=multipliers
        )
        encoder = AdaFaceEncoder(config, random_text_model(sizes, tokenizer)).eval()
        said.append(f"{_described(encoder)} with its teacher")
    return encoder


def _draw(pipe: StableDiffusionPipeline, states: dict, sizes: Sizes, timed: Timed) -> None:
    ends: list[float] = []

    def note(_pipe: Any, _step: int, _timestep: Any, _tensors: dict) -> dict:
        ends.append(time.perf_counter())
        return {}

    with timed(f"{sizes.steps} steps") as said:
        start = time.perf_counter()
        latents = pipe(
            **states, num_inference_steps=sizes.steps, guidance_scale=4.0, height=sizes.side, width=sizes.side,
            output_type="latent", callback_on_step_end=note,
        ).images  # fmt: skip
        each = [b - a for a, b in zip([start, *ends], ends, strict=False)]
        said.append("with guidance, " + " and ".join(f"{seconds:.1f} s" for seconds in each))
    with timed("decoding", f"{sizes.side} x {sizes.side} px"), torch.no_grad():
        picture = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
    if not (torch.isfinite(latents).all() and torch.isfinite(picture).all()):
        raise RuntimeError("the picture holds numbers that are not finite; bfloat16 does not work on this machine")


def _described(model: nn.Module) -> str:
    count = sum(parameter.numel() for parameter in model.parameters())
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    kinds = sorted({str(parameter.dtype).removeprefix("torch.") for parameter in model.parameters()})
    return f"{count / 1e6:,.1f} M parameters, {size / 1e9:.2f} GB {'/'.join(kinds)}"


def threads() -> str:
    """How much of the machine the run used."""
    count = torch.get_num_threads()
    return f"{count} thread{'s' if count > 1 else ''} of {os.cpu_count()} CPUs"
