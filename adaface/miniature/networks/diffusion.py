"""The miniature Stable Diffusion: diffusers' UNet at toy size, SD-1.5's noise schedule, sampling for measures."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from adaface.miniature.networks.clip import WIDTH, tokenize
from adaface.miniature.networks.vae import LATENT_CHANNELS, LATENT_SIDE
from adaface.models.precision import autocast

# Stable Diffusion 1.5, scheduler/scheduler_config.json
SD15_NOISE = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
_SNR_CAP, _HIGH_NOISE_CAP = 5.0, 5.0


def build_unet() -> UNet2DConditionModel:
    """Noisy latents (B, 4, 16, 16), timesteps (B,), text states (B, 77, 128) -> noise (B, 4, 16, 16)."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIDE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        layers_per_block=1,
        block_out_channels=(64, 96, 144),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,  # number of heads, by a misnomer of the library that SD-1.5's config shares
        norm_num_groups=16,
    )


def attend_plainly(unet: UNet2DConditionModel) -> None:
    """Attention written out, for training: the fused kernel's backward pass is several times slower on CPUs."""
    unet.set_attn_processor(AttnProcessor())


def noise_scheduler() -> DDPMScheduler:
    return DDPMScheduler(prediction_type="epsilon", clip_sample=False, **SD15_NOISE)


def sampler() -> DDIMScheduler:
    return DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1, **SD15_NOISE)


def loss_weights(scheduler: DDPMScheduler) -> Tensor:
    """float32 (1000,): weight of the epsilon loss per timestep.

    min-SNR (Hang et al. 2023), then more for high noise, half way (in the exponent) from the epsilon to the v loss:
    whose face it is gets decided there, where the epsilon loss hardly looks.
    """
    snr = scheduler.alphas_cumprod / (1 - scheduler.alphas_cumprod)
    return snr.clamp(max=_SNR_CAP) / snr * (1 + 1 / snr).sqrt().clamp(max=_HIGH_NOISE_CAP)


def draw_timesteps(count: int, generator: torch.Generator) -> Tensor:
    """int64 (count,): uniform, but half of the draws below 250, where only fine texture is left, are drawn again."""
    t = torch.randint(0, 1000, (count,), generator=generator)
    again = torch.randint(250, 1000, (count,), generator=generator)
    return torch.where((t < 250) & (torch.rand(count, generator=generator) < 0.5), again, t)


def text_states(text: CLIPTextModel, tokenizer: CLIPTokenizer, prompts: list[str]) -> Tensor:
    """float32 (B, 77, 128): the last states after the final norm, as SD-1.5 takes them."""
    device = next(text.parameters()).device
    return text(tokenize(tokenizer, prompts).to(device)).last_hidden_state.float()


@torch.no_grad()
def sample(
    unet: nn.Module, condition: Tensor, empty: Tensor, *, steps: int, guidance: float, seed: int, batch: int = 96
) -> Tensor:
    """DDIM with classifier-free guidance.

    Args:
        condition: (B, 77, D) text states, one row per picture.
        empty: (1, 77, D) of the empty prompt.
        seed: of the starting noise, which is drawn on the CPU, all rows at once.

    Returns:
        Latents (B, 4, 16, 16) float32.
    """
    device = condition.device
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(condition), LATENT_CHANNELS, LATENT_SIDE, LATENT_SIDE, generator=generator).to(device)
    scheduler = sampler()
    scheduler.set_timesteps(steps)
    done = []
    for x, c in zip(noise.split(batch), condition.split(batch), strict=True):
        both = torch.cat([empty.expand_as(c), c])
        for t in scheduler.timesteps:
            with autocast(device):
                without, with_ = unet(torch.cat([x, x]), t, both).sample.float().chunk(2)
            x = scheduler.step(without + guidance * (with_ - without), t, x).prev_sample
        done.append(x)
    return torch.cat(done)


@torch.no_grad()
def decode(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Scaled latents (B, 4, 16, 16) -> pixels (B, 3, 64, 64) in -1..1."""
    scale = vae.config.scaling_factor
    return torch.cat([vae.decode(part / scale).sample.float() for part in latents.split(64)]).clamp(-1, 1)


def load_sd(weights: Path) -> StableDiffusionPipeline:
    """The finished Stable Diffusion, float32, on the CPU. Raises FileNotFoundError where there is none."""
    folder = weights / "sd"
    if not (folder / "model_index.json").exists():
        raise FileNotFoundError(f"{folder} has no pipeline; train it first: python -m adaface.miniature.train sd")
    return StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32, low_cpu_mem_usage=False)


def load_teacher(weights: Path) -> tuple[UNet2DConditionModel, CLIPTextModel, CLIPTokenizer]:
    """The finished teacher, float32, on the CPU, and its tokenizer. Raises FileNotFoundError where there is none."""
    place = weights / "teacher"
    if not (place / "unet" / "diffusion_pytorch_model.safetensors").exists():
        raise FileNotFoundError(f"{place} has no UNet; train it first: python -m adaface.miniature.train teacher")
    unet = UNet2DConditionModel.from_pretrained(place / "unet", dtype=torch.float32, low_cpu_mem_usage=False)
    text = CLIPTextModel.from_pretrained(place / "text_encoder", dtype=torch.float32)
    return unet.eval(), text.eval(), CLIPTokenizer.from_pretrained(weights / "clip")
