"""The networks that a distillation looks at and never changes: the base model, and the teacher's UNet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from adaface.distill.noise_schedule import NoiseSchedule
from adaface.model_path import path_or_hub_name
from adaface.models.precision import Precision, Products, autocast, products
from adaface.models.whole import load_model, load_tokenizer

_SD15_SCALE = 0.18215  # where a VAE's configuration says nothing


@dataclass
class FrozenModels:
    """All on one device, in evaluation mode, without gradients of their own.

    Attributes:
        unet: the student's, of the base model.
        text: the base model's CLIP text model, which reads the student's prompts.
        tokenizer: of `text`.
        vae: of the base model; None where latents come from the dataset.
        teacher: Arc2Face's UNet. Its text model belongs to the encoder.
        schedule: of the noise, the same for both UNets.
        latent_scale: what latents are multiplied by after the VAE.
        compiled: `unet` after torch.compile, for passes that nothing looks into; None: `unet` itself does.
        precision: of the networks' matrix products: "bf16" by autocast, "fp32" as the weights are.
    """

    unet: Any
    text: Any
    tokenizer: Any
    vae: Any
    teacher: Any
    schedule: NoiseSchedule
    latent_scale: float
    precision: Products = "fp32"
    compiled: Any = None

    @property
    def student(self) -> Any:
        """The student's UNet where nothing is captured."""
        return self.unet if self.compiled is None else self.compiled

    @property
    def device(self) -> torch.device:
        return next(self.unet.parameters()).device

    def autocast(self) -> torch.autocast:
        return autocast(self.device, self.precision)

    def predict(self, unet: Any, states: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """(x_t (B, C, h, w), t (B,)) -> float32 noise (B, C, h, w), told `states` (B, T, D)."""

        def noise(x_t: Tensor, t: Tensor) -> Tensor:
            with self.autocast():
                return unet(x_t, t, states).sample.float()

        return noise

    @torch.no_grad()
    def encode(self, images: Tensor, noise: Tensor) -> Tensor:
        """Latents (B, 4, h, w) float32 of pictures, a sample of the posterior, scaled as the UNet wants them.

        Args:
            images: (B, 3, H, W) float32 in -1..1.
            noise: (B, 4, h, w) of the sample.
        """
        if self.vae is None:
            raise ValueError("pictures have to be encoded, but there is no VAE; load one, or cache latents")
        with self.autocast():
            posterior = self.vae.encode(images).latent_dist
        latents = posterior.mean.float() + posterior.std.float() * noise
        return latents * self.latent_scale

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) float32 in -1..1 of scaled latents (B, 4, h, w)."""
        if self.vae is None:
            raise ValueError("latents have to be decoded, but there is no VAE; load one, or do without teacher filter")
        with self.autocast():
            pictures = self.vae.decode(latents / self.latent_scale).sample
        return pictures.float().clamp(-1, 1)


def load_frozen(
    base: str,
    teacher_unet: str,
    *,
    device: torch.device | str = "cpu",
    precision: Precision = "fp32",
    vae: bool = True,
) -> FrozenModels:
    """From a diffusers folder of Stable Diffusion 1.5's kind and the folder of a teacher's UNet.

    Weights have the precision of the matrix products on a GPU; on CPUs they stay float32, where casts are cheaper.
    With the precision "auto" it is bf16 where the hardware is good at it.

    Raises:
        FileNotFoundError: for a model that is not there.
        ValueError: for one with missing tensors, and where base and teacher do not go together.
    """
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel

    device = torch.device(device)
    chosen = products(precision, device)
    dtype = torch.bfloat16 if chosen == "bf16" and device.type == "cuda" else torch.float32
    place, teacher_place = (path_or_hub_name(name) for name in (base, teacher_unet))
    text = load_model(CLIPTextModel, place, "text encoder", subfolder="text_encoder", dtype=dtype)
    tokenizer = load_tokenizer(place, text.config.vocab_size, subfolder="tokenizer")
    options: dict[str, Any] = {"dtype": dtype, "low_cpu_mem_usage": False}
    unet = load_model(UNet2DConditionModel, place, "UNet", subfolder="unet", **options)
    teacher = load_model(UNet2DConditionModel, teacher_place, "UNet", **options)
    encoder = load_model(AutoencoderKL, place, "VAE", subfolder="vae", **options) if vae else None
    scale = float(AutoencoderKL.load_config(place, subfolder="vae").get("scaling_factor", _SD15_SCALE))
    problems = []
    for name in ("in_channels", "cross_attention_dim", "sample_size"):
        ours, theirs = getattr(unet.config, name), getattr(teacher.config, name)
        if ours != theirs:
            problems.append(f"{name} is {ours} in the base's UNet and {theirs} in the teacher's")
    if problems:
        raise ValueError(f"{teacher_unet} cannot teach {base}: {'; '.join(problems)}")
    schedule = NoiseSchedule.from_scheduler(DDIMScheduler.from_pretrained(place, subfolder="scheduler"))
    networks = [unet, text, teacher, *([encoder] if encoder is not None else [])]
    for network in networks:
        frozen(network).to(device)
    return FrozenModels(unet, text, tokenizer, encoder, teacher, schedule.to(device), scale, chosen)


def frozen(network: nn.Module) -> nn.Module:
    return network.requires_grad_(False).eval()
