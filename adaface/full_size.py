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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from adaface.encoder.config import EncoderConfig
from adaface.encoder.model import AdaFaceEncoder
from adaface.model_path import model_path
from adaface.subjects.subject import load_adaface

LIMIT = 16e9  # bytes of memory that all of it may take
TOKENIZER = "package://adaface.miniature/weights/clip"  # a small one; which words it knows changes nothing here
PROMPT = "a photo of z riding a horse"

_TEXT = {
    "vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "max_position_embeddings": 77,
}  # fmt: skip
_UNET = {"cross_attention_dim": 768, "sample_size": 64}
_VAE = {
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "sample_size": 512,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
}  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """Sizes of all models, as their libraries call them. The defaults are Stable Diffusion 1.5 and Arc2Face."""

    text: Mapping[str, int] = field(default_factory=lambda: dict(_TEXT))
    unet: Mapping[str, Any] = field(default_factory=lambda: dict(_UNET))
    vae: Mapping[str, Any] = field(default_factory=lambda: dict(_VAE))
    id_dim: int = 512
    multiplier: int = 4  # keys and values of the inverse encoder per token, as in the original's extended checkpoints
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
    with timed("UNet") as said, _default_dtype(torch.bfloat16):
        with torch.device("meta"):
            unet = UNet2DConditionModel(**sizes.unet)
        # made in its dtype and filled once: in float32 it would take twice as much, for a moment
        unet = unet.to_empty(device="cpu").eval()
        _fill(unet)
        said.append(_described(unet))
    with timed("VAE") as said, _default_dtype(torch.bfloat16):
        vae = AutoencoderKL(**sizes.vae).eval()
        said.append(_described(vae))
    with timed("text encoder") as said, _default_dtype(torch.bfloat16):
        text = _text_model(sizes, tokenizer)
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
        encoder = AdaFaceEncoder(config, _text_model(sizes, tokenizer)).eval()
        said.append(f"{_described(encoder)} with its teacher")
    return encoder


def _text_model(sizes: Sizes, tokenizer: Any) -> CLIPTextModel:
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    return CLIPTextModel(CLIPTextConfig(**sizes.text, **ends)).eval()


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


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@torch.no_grad()
def _fill(model: nn.Module) -> None:
    """Weights of about the size that networks start with, in a moment: one block of random numbers, again and again."""
    block = torch.randn(1 << 20).to(torch.bfloat16)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            parameter.fill_(float(name.endswith("weight")))  # norms, and biases
            continue
        for part in parameter.view(-1).split(len(block)):
            part.copy_(block[: len(part)])
        parameter.mul_(parameter[0].numel() ** -0.5)


def _described(model: nn.Module) -> str:
    count = sum(parameter.numel() for parameter in model.parameters())
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    kinds = sorted({str(parameter.dtype).removeprefix("torch.") for parameter in model.parameters()})
    return f"{count / 1e6:,.1f} M parameters, {size / 1e9:.2f} GB {'/'.join(kinds)}"


def threads() -> str:
    """How much of the machine the run used."""
    count = torch.get_num_threads()
    return f"{count} thread{'s' if count > 1 else ''} of {os.cpu_count()} CPUs"
