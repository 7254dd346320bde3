"""Vision models with random weights, saved as transformers saves them, with the input of the published ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel, ViTConfig, ViTModel

from adaface.model_path import model_path

# as openai/clip-vit-base-patch32 and facebook/dino-vits16 have them
CLIP_INPUT = {
    "crop_size": 224,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "size": 224,
}
DINO_INPUT = {
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "ViTFeatureExtractor",
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 2,
    "size": 224,
}


def save_clip(folder: Path, *, side: int = 224, preprocessor: bool = True) -> Path:
    """A CLIP of pictures of `side` px, with the tokenizer of the miniature."""
    common = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    tokenizer = model_path("package://adaface.miniature/weights/clip")
    words = json.loads((tokenizer / "config.json").read_text())["text_config"]
    ends = {name: words[name] for name in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")}
    config = CLIPConfig(
        text_config={**common, **ends, "max_position_embeddings": 77},
        vision_config={**common, "image_size": side, "patch_size": 32},
        projection_dim=16,
    )
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tokenizer / file, folder / file)
    if preprocessor:
        (folder / "preprocessor_config.json").write_text(json.dumps(CLIP_INPUT))
    return folder


def save_dino(folder: Path) -> Path:
    """A vision transformer of 224 px with a class token."""
    config = ViTConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=224, patch_size=32
    )
    torch.manual_seed(0)
    ViTModel(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(DINO_INPUT))
    return folder
