"""The encoder that a run starts with: a new one, or that of an earlier run with more keys and values per token.

The lineage of the original's README, four copies in round 2 and two in stage 2, cannot be: copies can be multiplied and
not taken away. A run that asks for it is refused, with what would do.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from adaface.distill.background import BackgroundFeatures, new_generator
from adaface.distill.draws import torch_generator
from adaface.encoder.config import EncoderConfig, text_values
from adaface.encoder.files import has_teacher, locate
from adaface.encoder.model import AdaFaceEncoder
from adaface.model_path import path_or_hub_name
from adaface.models.whole import load_model, load_tokenizer


def initial_encoder(
    *,
    init: str | None,
    multiplier: int,
    teacher_text: str,
    text_model: str,
    tokenizer: Any,
    face_pack: str,
    seed: int,
    background: BackgroundFeatures | None = None,
    unet_layers: int = 16,
) -> AdaFaceEncoder:
    """float32, on the CPU, in training mode; its teacher is frozen.

    Args:
        init: encoder folder to go on from; None: a new encoder, whose inverse encoder is a copy of `text_model`.
        multiplier: keys and values per token that it is to have. New copies get noise, which comes from `seed`.
        teacher_text: the teacher's text encoder: a folder, package://... or a name of the hub. Of an `init` that has a copy
            beside its weights, that copy is read.
        text_model, tokenizer: of a new encoder: the same, or a tokenizer that is loaded.
        face_pack: whose ID embeddings a new encoder reads.
        background: with it, an encoder without a background generator gets a new one for these features, with vectors
            for `unet_layers` cross-attention layers.

    Raises:
        ValueError: when the encoder has more copies than that, or a number that does not divide it.
        FileNotFoundError: for what is not there.
    """
    from transformers import CLIPTextModel

    if init is None:
        text = load_model(CLIPTextModel, path_or_hub_name(text_model), "text encoder", dtype=torch.float32)
        teacher = load_model(
            CLIPTextModel, path_or_hub_name(teacher_text), "text encoder of a teacher", dtype=torch.float32
        )
        config = EncoderConfig.for_tokenizer(
            load_tokenizer(path_or_hub_name(tokenizer), text.config.vocab_size)
            if isinstance(tokenizer, str)
            else tokenizer,
            text=text_values(text.config),
            id_dim=_id_dim(face_pack),
            teacher=teacher_text,
            face_pack=face_pack,
        )
        encoder = AdaFaceEncoder.from_text_model(config, teacher, text)
    else:
        brings_its_own = has_teacher(locate(init))
        encoder = AdaFaceEncoder.from_pretrained(
            init, dtype=torch.float32, teacher=None if brings_its_own else teacher_text
        )
    _extend(encoder, multiplier, init, seed)
    if background is not None:
        _with_background(encoder, background, unet_layers, seed)
    return encoder.train()


def _extend(encoder: AdaFaceEncoder, multiplier: int, init: str | None, seed: int) -> None:
    there = sorted(set(encoder.config.multipliers))
    wrong = [copies for copies in there if multiplier % copies]
    if wrong:
        raise ValueError(
            f"{init} has {'/'.join(map(str, there))} keys and values per token, and the run asks for {multiplier}: copies "
            "can be multiplied, but not taken away. Ask for a multiple of what is there, or start from an encoder with "
            "fewer copies; round 1 with 1, round 2 with 2 and stage 2 with 2 go together. (The original's README has 4 and "
            "then 2, which its own code cannot load.)"
        )
    generator = torch_generator(seed, "copies")
    for layer, copies in enumerate(encoder.config.multipliers):
        if copies != multiplier:
            encoder.extend(multiplier // copies, layers=[layer], generator=generator)


def _with_background(encoder: AdaFaceEncoder, features: BackgroundFeatures, layers: int, seed: int) -> None:
    if encoder.background is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_generator(seed, "background").initial_seed())
            encoder.background, sizes = new_generator(encoder.config.width, layers, features)
        encoder.config = replace(encoder.config, background=sizes)
        return
    there, wanted = encoder.background.positions.shape[1], features.tokens
    if (
        encoder.background.layers != layers
        or there != wanted
        or encoder.background.image_proj.in_features != features.width
    ):
        raise ValueError(
            f"the encoder's background generator is for {encoder.background.layers} layers and {there} features of width "
            f"{encoder.background.image_proj.in_features}; this UNet has {layers}, and models.vision gives {wanted} of width "
            f"{features.width}: take the CLIP that it was trained with"
        )
    # one of the original drops vectors by torch's global random numbers, which no checkpoint keeps
    encoder.background.dropout = 0.0
    encoder.config = replace(encoder.config, background={**(encoder.config.background or {}), "dropout": 0.0})


def _id_dim(face_pack: str) -> int:
    from adaface.perception.pack import embedding_length, resolve_pack

    length = embedding_length(resolve_pack(face_pack).files["recognition"])
    if length is None:
        raise ValueError(f"the recogniser of {face_pack} does not say how long its embeddings are")
    return length
