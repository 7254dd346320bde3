"""Networks so small that a step of either stage takes milliseconds, with random weights, and a dataset for them.

They are folders of the usual kinds and sizes that fit `tests.tiny_world`: faces of 192 numbers, pictures of 32 px.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from adaface.miniature.networks.diffusion import sampler
from adaface.miniature.shipped import WEIGHTS
from tests.data_pipeline.phases import world
from tests.tiny_world import make_pack, make_parser, make_photos

WIDTH = 192  # of the text, the least that takes the tiny world's faces
PIXELS = 32
GRAMMAR = "package://adaface.miniature/compositions.yaml"


def make_models(folder: Path) -> Path:
    """base/ (Stable Diffusion), teacher/ (Arc2Face's two networks) and text/ (what an encoder starts from)."""
    with torch.random.fork_rng():
        torch.manual_seed(11)
        _text().save_pretrained(folder / "base/text_encoder")
        _unet().save_pretrained(folder / "base/unet")
        _vae().save_pretrained(folder / "base/vae")
        _unet().save_pretrained(folder / "teacher/unet")
        _text().save_pretrained(folder / "teacher/text_encoder")
        _text().save_pretrained(folder / "text")
    sampler().save_pretrained(folder / "base/scheduler")
    shutil.copytree(WEIGHTS / "sd/tokenizer", folder / "base/tokenizer")
    return folder


def make_dataset(folder: Path) -> Path:
    """pack/ and out/, a finished dataset of 24 samples of 4 people in 3 shards, all with masks."""
    photos, pack = make_photos(folder / "photos"), make_pack(folder / "pack")
    world(photos, pack, folder / "out", make_parser(folder / "parser.onnx")).build()
    return folder


def settings(models: Path, dataset: Path, output: Path | str, /, **changes: Any) -> dict[str, Any]:
    """A DistillConfig as plain values; `changes` replace whole sections or are merged into them."""
    stage = {
        "compositions": GRAMMAR,
        "optimizer": {"name": "adamw", "rate": 1e-3},
        "schedule": {"warmup": 2},
    }
    values: dict[str, Any] = {
        "output": str(output),
        "models": {
            "base": str(models / "base"),
            "teacher_unet": str(models / "teacher/unet"),
            "teacher_text": str(models / "teacher/text_encoder"),
            "text_model": str(models / "text"),
            "face_pack": str(dataset / "pack"),
        },
        "data": {"datasets": [str(dataset / "out")], "augment": {"size": PIXELS}, "threads": 1, "ahead": 8},
        "stage1": {"stage": {**stage, "plan": {"steps": 6, "batch": 4}}},
        "stage2": {"stage": {**stage, "plan": {"steps": 6, "batch": 2, "distillation": 0.5}}},
        "log": {"checkpoint_every": 3, "log_every": 1, "panel_every": None, "trackers": []},
    }
    return merged(values, changes)


def merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    both = dict(values)
    for key, change in changes.items():
        inside = values.get(key)
        both[key] = merged(inside, change) if isinstance(inside, dict) and isinstance(change, dict) else change
    return both


def _text() -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=903,
        hidden_size=WIDTH,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        bos_token_id=901,
        eos_token_id=902,
        pad_token_id=902,
    )
    return CLIPTextModel(config)


def _unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        norm_num_groups=8,
    )


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 16, 16),
        norm_num_groups=4,
        sample_size=PIXELS,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )
