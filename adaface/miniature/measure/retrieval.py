"""CLIP: does it find the caption of a picture, and the word of each factor?"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from adaface.miniature.networks.clip import tokenize
from adaface.miniature.networks.vae import to_tensor
from adaface.miniature.pictures.portraits import person_at, scene_at
from adaface.miniature.pictures.rendered import Chunk
from adaface.miniature.world.captions import caption, prompt_for
from adaface.miniature.world.scene import VOCABULARY

CAPTIONS = 64  # to choose from
_DRAWS, _BATCH = 30, 200
FACTORS = ("place", "clothing", "headwear", "style")  # what zero-shot accuracy is measured on


@torch.inference_mode()
def embed_images(clip: CLIPModel, images: np.ndarray) -> Tensor:
    """uint8 (B, 64, 64, 3) -> unit float32 (B, 128)."""
    device = next(clip.parameters()).device
    parts = [
        clip.visual_projection(clip.vision_model(pixel_values=x).pooler_output)
        for x in to_tensor(images, device).split(_BATCH)
    ]
    return F.normalize(torch.cat(parts).float(), dim=-1).cpu()


@torch.inference_mode()
def embed_texts(clip: CLIPModel, tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """-> unit float32 (B, 128)."""
    device = next(clip.parameters()).device
    parts = [
        clip.text_projection(clip.text_model(input_ids=tokens.to(device)).pooler_output)
        for tokens in tokenize(tokenizer, texts).split(_BATCH)
    ]
    return F.normalize(torch.cat(parts).float(), dim=-1).cpu()


def retrieval_rows(clip: CLIPModel, tokenizer: CLIPTokenizer, pictures: Chunk) -> dict[str, float]:
    """Top-1 among 64 captions (mean over draws), and zero-shot accuracy per factor, on pictures in scenes."""
    rows = np.flatnonzero(np.asarray(pictures["scene"]).sum(1) > 0)
    images = embed_images(clip, pictures["image"][rows])
    texts = [caption(person_at(pictures, int(row)), scene_at(pictures, int(row))) for row in rows]
    captions = embed_texts(clip, tokenizer, texts)
    rng, hits = np.random.default_rng(0), []
    for _ in range(_DRAWS):
        pick = rng.permutation(len(rows))[:CAPTIONS]
        best = (images[pick] @ captions[pick].T).argmax(1)
        hits.append(float((best == torch.arange(len(pick))).float().mean()))
    out = {f"retrieval_top1_of_{CAPTIONS}": round(float(np.mean(hits)), 4)}
    for factor in FACTORS:
        words = embed_texts(clip, tokenizer, [prompt_for(factor, word) for word in VOCABULARY[factor]])
        truth = torch.from_numpy(pictures["scene"][rows][:, list(VOCABULARY).index(factor)].astype(np.int64))
        out[f"zero_shot_{factor}"] = round(float(((images @ words.T).argmax(1) == truth).float().mean()), 4)
    return out
