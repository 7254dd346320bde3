"""Names of Stable Diffusion 1.5 itself, on the meta device."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextConfig, CLIPTextModel

from adaface.full_size import Sizes
from adaface.surgery.ldm_keys import same_shape, text_names, vae_names
from adaface.surgery.weight_files import TensorInfo
from tests.adaface.surgery.ldm_checkpoint import ldm_vae


def info(state: dict[str, torch.Tensor], prefix: str = "") -> dict[str, TensorInfo]:
    return {f"{prefix}{name}": TensorInfo(tuple(value.shape), value.dtype) for name, value in state.items()}


def test_all_names_of_the_real_vae_are_known():
    with torch.device("meta"):
        vae = AutoencoderKL(**Sizes().vae)
    own, other = info(vae.state_dict()), info(ldm_vae(vae), "first_stage_model.")
    names = vae_names(other)
    assert len(names) == 248 and names.keys() == own.keys() == vae_names(own).keys()
    assert names["decoder.up_blocks.0.resnets.2.conv1.weight"] == "first_stage_model.decoder.up.3.block.2.conv1.weight"
    assert (
        names["encoder.mid_block.attentions.0.to_out.0.weight"]
        == "first_stage_model.encoder.mid.attn_1.proj_out.weight"
    )
    assert all(same_shape(name, own[name].shape, other[names[name]].shape) for name in own)


def test_all_names_of_the_real_text_encoder_are_known():
    with torch.device("meta"):
        text = CLIPTextModel(CLIPTextConfig(**Sizes().text))
    own = info(text.state_dict())
    old = info(text.state_dict(), "cond_stage_model.transformer.text_model.")
    old["cond_stage_model.transformer.text_model.embeddings.position_ids"] = TensorInfo((1, 77), torch.int64)
    assert len(text_names(own)) == 196
    assert text_names(own).keys() == text_names(old).keys() == own.keys()


def test_a_vae_is_no_text_encoder_and_the_other_way_round():
    with torch.device("meta"):
        vae, text = AutoencoderKL(**Sizes().vae), CLIPTextModel(CLIPTextConfig(**Sizes().text))
    assert text_names(info(vae.state_dict())) == {}
    assert vae_names(info(text.state_dict())) == {}


def test_only_the_attention_of_the_vae_may_be_a_convolution():
    assert same_shape("encoder.mid_block.attentions.0.to_q.weight", (8, 8), (8, 8, 1, 1))
    assert not same_shape("encoder.mid_block.attentions.0.to_q.weight", (8, 8), (8, 8, 3, 3))
    assert not same_shape("quant_conv.weight", (8, 8), (8, 8, 1, 1))
