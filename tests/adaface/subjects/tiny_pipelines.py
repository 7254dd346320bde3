"""Real diffusers pipelines of Stable Diffusion 1.5's kinds, with random weights, that draw 16 px pictures at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import (
    AnimateDiffPipeline,
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    MotionAdapter,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from adaface.encoder.config import EncoderConfig
from adaface.encoder.model import AdaFaceEncoder
from adaface.miniature.networks.tokenizer import build_tokenizer
from adaface.miniature.world.captions import vocabulary

SIDE = 16  # px
WIDTH, ID_DIM, LAYERS = 32, 24, 3


def build_parts(seed: int = 0, width: int = WIDTH) -> dict[str, Any]:
    """The components of a text-to-image pipeline."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer(vocabulary())
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=width,
        attention_head_dim=2,
        norm_num_groups=8,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        norm_num_groups=8,
        latent_channels=4,
        sample_size=SIDE,
    )
    return {
        "vae": vae.eval(),
        "text_encoder": build_text(tokenizer, width),
        "tokenizer": tokenizer,
        "unet": unet.eval(),
        "scheduler": DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        "safety_checker": None,
        "feature_extractor": None,
        "image_encoder": None,
    }


def build_text(tokenizer: CLIPTokenizer, width: int = WIDTH) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        max_position_embeddings=77,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    text = CLIPTextModel(config).eval()
    # far enough from one another that every word changes the picture
    torch.nn.init.normal_(text.get_input_embeddings().weight, std=0.5)
    return text


def build_encoder(seed: int = 1, width: int = WIDTH, id_dim: int = ID_DIM) -> AdaFaceEncoder:
    """A tiny encoder of random weights for pipelines of `build_parts`."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer(vocabulary())
    teacher, text = build_text(tokenizer, width), build_text(tokenizer, width)
    config = EncoderConfig.for_tokenizer(tokenizer, id_dim=id_dim, text=text.config, multipliers=(2,) * LAYERS)
    return AdaFaceEncoder.from_text_model(config, teacher, text).eval()


def _text_to_image(parts: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    return StableDiffusionPipeline(**parts, requires_safety_checker=False), {"height": SIDE, "width": SIDE}


def _image_to_image(parts: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    pipe = StableDiffusionImg2ImgPipeline(**parts, requires_safety_checker=False)
    return pipe, {"image": Image.new("RGB", (SIDE, SIDE), "teal"), "strength": 0.9}


def _inpaint(parts: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    pipe = StableDiffusionInpaintPipeline(**parts, requires_safety_checker=False)
    mask = Image.new("L", (SIDE, SIDE), 0)
    mask.paste(255, (4, 4, 16, 16))
    picture = Image.new("RGB", (SIDE, SIDE), "teal")
    return pipe, {"image": picture, "mask_image": mask, "height": SIDE, "width": SIDE, "strength": 1.0}


def _controlnet(parts: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    torch.manual_seed(3)
    controlnet = ControlNetModel.from_unet(parts["unet"], conditioning_embedding_out_channels=(8, 16)).eval()
    pipe = StableDiffusionControlNetPipeline(**parts, controlnet=controlnet, requires_safety_checker=False)
    return pipe, {"image": Image.new("RGB", (SIDE, SIDE), "white"), "height": SIDE, "width": SIDE}


def _animatediff(parts: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    torch.manual_seed(4)
    adapter = MotionAdapter(
        block_out_channels=(16, 32),
        motion_layers_per_block=1,
        motion_mid_block_layers_per_block=1,
        motion_num_attention_heads=2,
        motion_norm_num_groups=8,
    )
    taken = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
    pipe = AnimateDiffPipeline(**{name: parts[name] for name in taken}, motion_adapter=adapter)
    return pipe, {"height": SIDE, "width": SIDE, "num_frames": 3}


KINDS: dict[str, Callable[[dict[str, Any]], tuple[Any, dict[str, Any]]]] = {
    "text-to-image": _text_to_image,
    "image-to-image": _image_to_image,
    "inpainting": _inpaint,
    "controlnet": _controlnet,
    "animatediff": _animatediff,
}


def build_pipeline(kind: str, seed: int = 0) -> tuple[Any, dict[str, Any]]:
    """(pipeline, the arguments that this kind needs beside prompts)."""
    pipe, arguments = KINDS[kind](build_parts(seed))
    pipe.set_progress_bar_config(disable=True)
    return pipe, arguments


def draw(pipe: Any, arguments: dict[str, Any], seed: int = 0, steps: int = 2, **prompts: Any) -> torch.Tensor:
    """(B, ..., 3) float32 pixels of one call."""
    generator = torch.Generator().manual_seed(seed)
    out = pipe(**arguments, **prompts, num_inference_steps=steps, generator=generator, output_type="np")
    return torch.from_numpy(out.frames if hasattr(out, "frames") else out.images)
