"""Names of one tensor in different files, brought to one spelling.

Stable Diffusion 1.5 exists in the names of its first code (LDM: `first_stage_model.encoder.down.0.block.0.conv1.weight`)
and in those of diffusers and transformers, each of which has changed its own: the VAE's attention was `query`, `key`,
`value`, `proj_attn`, and the text model carried a `text_model.` that transformers 5 leaves out. Here a text encoder is
spelled as transformers 5 does, a VAE as diffusers does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

from adaface.surgery.weight_files import TensorInfo

LDM_UNET = "model.diffusion_model."
LDM_VAE = "first_stage_model."
LDM_TEXT = "cond_stage_model.transformer."
LDM_EMA = "model_ema."
# SD 2 and SDXL, to be able to say what a wrong file is
SD2_TEXT = "cond_stage_model.model."
SDXL_TEXT = "conditioner.embedders."

_TEXT_ROOTS = ("embeddings.", "encoder.layers.", "final_layer_norm.")
_VAE_ROOTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
_OLD_ATTENTION = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}


def text_names(info: Mapping[str, TensorInfo]) -> dict[str, str]:
    """{name of transformers 5: name in this file} of the CLIP text model in a file; empty where there is none.

    The file may be a whole LDM checkpoint, a text encoder alone, or a CLIP model of both halves. The buffer
    `position_ids`, a count from 0 to 76 that only old files hold, is not a weight and left out.
    """
    prefix = LDM_TEXT if any(name.startswith(LDM_TEXT) for name in info) else ""
    names = {}
    for name in info:
        if name.startswith(prefix):
            bare = name.removeprefix(prefix).removeprefix("text_model.")
            if bare.startswith(_TEXT_ROOTS) and not bare.endswith("position_ids"):
                names[bare] = name
    return names


def vae_names(info: Mapping[str, TensorInfo]) -> dict[str, str]:
    """{name of diffusers: name in this file} of the VAE in a file; empty where there is none.

    The file may be a whole LDM checkpoint, a VAE alone in LDM names with or without `first_stage_model.`, or one in
    names of diffusers. Losses and EMA copies of a VAE's own training are left out.
    """
    prefix = LDM_VAE if any(name.startswith(LDM_VAE) for name in info) else ""
    bare = {name.removeprefix(prefix): name for name in info if name.startswith(prefix)}
    bare = {
        short: name for short, name in bare.items() if short.startswith(_VAE_ROOTS) and "encoder.layers." not in short
    }
    if any(short.startswith(("encoder.down_blocks.", "decoder.up_blocks.", "decoder.mid_block.")) for short in bare):
        return {_new_attention(short): name for short, name in bare.items()}
    return _ldm_vae_names(bare, info)


def same_shape(name: str, one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two shapes of the same VAE or text tensor hold the same weights.

    The attention of the VAE is a convolution of one pixel in LDM, (C, C, 1, 1), and a matrix (C, C) in diffusers.
    """
    if "mid_block.attentions." in name:
        one, other = one[:2] if one[2:] == (1, 1) else one, other[:2] if other[2:] == (1, 1) else other
    return one == other


def _ldm_vae_names(bare: Mapping[str, str], info: Mapping[str, TensorInfo]) -> dict[str, str]:
    """Ask the converter of diffusers where each name goes, with one-element tensors that carry their number."""
    order = list(bare)
    numbered = {
        short: torch.full((1,) * len(info[bare[short]].shape), number, dtype=torch.int64)
        for number, short in enumerate(order)
    }
    config = {f"{way}_block_types": [""] * _blocks(order, way) for way in ("down", "up")}
    converted = convert_ldm_vae_checkpoint(numbered, config)
    names = {new: bare[order[int(number)]] for new, number in converted.items()}
    # what the converter does not know keeps its name, so that a comparison shows it
    known = set(names.values())
    return names | {short: name for short, name in bare.items() if name not in known}


def _blocks(names: list[str], way: str) -> int:
    found = [re.match(rf"(?:en|de)coder\.{way}\.(\d+)\.", name) for name in names]
    return 1 + max((int(match[1]) for match in found if match), default=-1)


def _new_attention(name: str) -> str:
    for old, new in _OLD_ATTENTION.items():
        name = name.replace(old, new)
    return name
