"""Tiny Stable Diffusion pipelines, as diffusers folders and in the names of the first Stable Diffusion code."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from adaface.miniature.networks.tokenizer import build_tokenizer
from adaface.miniature.world.captions import vocabulary
from adaface.surgery.weight_files import sha256_of

WIDTH = 32


def tiny_pipeline(seed: int, width: int = WIDTH, **vae_settings: object) -> StableDiffusionPipeline:
    """All parts of a Stable Diffusion 1.5 pipeline, random and small; another seed gives other weights."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer(vocabulary())
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=3,
            num_attention_heads=4, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        )
    )  # fmt: skip
    unet = UNet2DConditionModel(
        block_out_channels=(32, 64), layers_per_block=1, attention_head_dim=4, cross_attention_dim=width,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(32, 64), layers_per_block=1, sample_size=64,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        **vae_settings,
    )  # fmt: skip
    for parameter in (p for model in (text, unet, vae) for p in model.parameters()):
        parameter.data += 0.02 * torch.randn_like(parameter)  # biases and norms that differ, too
    return StableDiffusionPipeline(
        vae=vae.eval(), text_encoder=text.eval(), tokenizer=tokenizer, unet=unet.eval(),
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False, beta_schedule="scaled_linear"),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


class World:
    """A base and a donor, as folders and as files, and their models."""

    def __init__(self, root: Path) -> None:
        self.base, self.donor = tiny_pipeline(0), tiny_pipeline(1)
        self.folder, self.other = root / "base", root / "donor"
        self.base.save_pretrained(self.folder)
        self.donor.save_pretrained(self.other)
        self.file = save_ldm(self.base, root / "base.safetensors")
        self.other_file = save_ldm(self.donor, root / "donor.safetensors")

    def hashes(self) -> dict[Path, str]:
        files = [self.file, self.other_file, *self.folder.rglob("*"), *self.other.rglob("*")]
        return {file: sha256_of([file]) for file in files if file.is_file()}


def ldm_state(pipe: StableDiffusionPipeline) -> dict[str, Tensor]:
    """The whole pipeline under LDM names, with the buffers that old files carry beside the weights."""
    state = {f"model.diffusion_model.{name}": value for name, value in _ldm_unet(pipe.unet).items()}
    state |= {f"first_stage_model.{name}": value for name, value in ldm_vae(pipe.vae).items()}
    text = "cond_stage_model.transformer.text_model."
    state |= {
        f"{text}{name.removeprefix('text_model.')}": value for name, value in pipe.text_encoder.state_dict().items()
    }
    state[f"{text}embeddings.position_ids"] = torch.arange(77)[None]
    state["alphas_cumprod"] = torch.linspace(0.999, 0.0047, 1000)
    state["model_ema.decay"] = torch.tensor(0.9999)
    return {name: value.contiguous() for name, value in state.items()}


def save_ldm(pipe: StableDiffusionPipeline, file: Path, dtype: torch.dtype = torch.float32) -> Path:
    """One .safetensors file of the pipeline in LDM names."""
    state = {name: value.to(dtype) if value.is_floating_point() else value for name, value in ldm_state(pipe).items()}
    save_file(state, file)
    return file


def ldm_vae(vae: AutoencoderKL) -> dict[str, Tensor]:
    """LDM names without `first_stage_model.`; the attention as convolutions of one pixel."""
    last = len(vae.config.block_out_channels) - 1
    state = {}
    for name, value in vae.state_dict().items():
        new = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", name)
        new = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", new)
        new = re.sub(r"up_blocks\.(\d+)\.resnets", lambda m: f"up.{last - int(m[1])}.block", new)
        new = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"up.{last - int(m[1])}.upsample", new)
        new = re.sub(r"mid_block\.resnets\.(\d+)", lambda m: f"mid.block_{int(m[1]) + 1}", new)
        new = new.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        if "mid_block.attentions" in new:
            new = new.replace("mid_block.attentions.0", "mid.attn_1").replace("group_norm", "norm")
            new = new.replace("to_out.0", "proj_out").replace("to_", "")
            value = value[:, :, None, None] if value.ndim == 2 else value
        state[new] = value
    return state


def _ldm_unet(unet: UNet2DConditionModel) -> dict[str, Tensor]:
    layers = unet.config.layers_per_block
    block = layers + 1  # resnets and the change of resolution
    kinds = unet.config.up_block_types

    def up(match: re.Match) -> str:
        return f"output_blocks.{int(match[1]) * block + int(match[3])}.{('resnets', 'attentions').index(match[2])}."

    def upsampler(match: re.Match) -> str:
        number = int(match[1])
        return f"output_blocks.{number * block + layers}.{2 if 'CrossAttn' in kinds[number] else 1}.conv."

    def down(match: re.Match) -> str:
        return f"input_blocks.{int(match[1]) * block + int(match[3]) + 1}.{('resnets', 'attentions').index(match[2])}."

    rules = [
        (r"^time_embedding\.linear_1\.", "time_embed.0."), (r"^time_embedding\.linear_2\.", "time_embed.2."),
        (r"^conv_in\.", "input_blocks.0.0."), (r"^conv_norm_out\.", "out.0."), (r"^conv_out\.", "out.2."),
        (r"^down_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.", down),
        (r"^down_blocks\.(\d+)\.downsamplers\.0\.conv\.", lambda m: f"input_blocks.{(int(m[1]) + 1) * block}.0.op."),
        (r"^mid_block\.resnets\.(\d+)\.", lambda m: f"middle_block.{2 * int(m[1])}."),
        (r"^mid_block\.attentions\.0\.", "middle_block.1."),
        (r"^up_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.", up),
        (r"^up_blocks\.(\d+)\.upsamplers\.0\.conv\.", upsampler),
        (r"\.norm1\.(?=\w+$)", ".in_layers.0."), (r"\.conv1\.", ".in_layers.2."),
        (r"\.time_emb_proj\.", ".emb_layers.1."), (r"\.norm2\.(?=\w+$)", ".out_layers.0."),
        (r"\.conv2\.", ".out_layers.3."), (r"\.conv_shortcut\.", ".skip_connection."),
    ]  # fmt: skip
    state = {}
    for name, value in unet.state_dict().items():
        for pattern, replacement in rules:
            if "transformer_blocks" in name and pattern.startswith(r"\."):
                continue  # its norms keep their names
            name = re.sub(pattern, replacement, name)
        state[name] = value
    return state
