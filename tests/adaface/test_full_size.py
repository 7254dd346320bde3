"""The full-size run at small sizes; the real one takes minutes: `adaface doctor --full-size`."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel

from adaface.full_size import LIMIT, Sizes, free_memory, measure, peak_memory
from adaface.random_networks import fill
from flows.doctor import examine_full_size

SMALL = Sizes(
    text={
        "vocab_size": 2000, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
        "num_attention_heads": 4, "max_position_embeddings": 77,
    },
    unet={
        "block_out_channels": (32, 64), "layers_per_block": 1, "cross_attention_dim": 32, "attention_head_dim": 4,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    },
    vae={
        "block_out_channels": (32, 64), "layers_per_block": 1, "sample_size": 32,
        "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2,
    },
    id_dim=32, side=32, needed=0.5e9,
)  # fmt: skip


def test_every_part_is_timed_and_the_memory_measured():
    told: list[str] = []
    stages, peak = measure(SMALL, told.append)
    names = [stage.name for stage in stages]
    assert names == [
        "UNet", "VAE", "text encoder", "AdaFace encoder", "subject", "prompt", "2 steps", "decoding",
    ]  # fmt: skip
    assert [str(stage) for stage in stages] == told
    assert all(stage.seconds > 0 for stage in stages)
    assert "bfloat16" in stages[0].said and "float32 with its teacher" in stages[3].said
    assert 50e6 < peak <= peak_memory() < LIMIT


def test_too_little_memory_is_refused_before_anything_is_built():
    told: list[str] = []
    with pytest.raises(MemoryError, match=r"GB of memory are free and this takes up to 1000000; end other programs"):
        measure(Sizes(needed=1e15), told.append)
    assert told == []
    assert free_memory() is None or 0 < free_memory() < 1e14


def test_the_doctor_reports_it_as_findings(capsys):
    findings = list(examine_full_size(SMALL))
    assert {finding.level for finding in findings} == {"ok"}
    assert {finding.area for finding in findings} == {"full size"}
    assert "GB at most" in findings[-1].what and "limit of 16" in findings[-1].what
    assert "2 steps" in capsys.readouterr().err
    refused = list(examine_full_size(Sizes(needed=1e15)))
    assert [finding.level for finding in refused] == ["fail"] and "are free" in refused[0].what


def test_the_sizes_are_those_of_stable_diffusion():
    """Counted on the meta device: no memory."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**Sizes().unet)
    assert sum(parameter.numel() for parameter in unet.parameters()) == 859_520_964


def test_filled_weights_have_the_size_of_fresh_ones():
    unet = UNet2DConditionModel(**SMALL.unet).to(torch.bfloat16)
    fill(unet)
    weight = unet.mid_block.resnets[0].conv1.weight
    assert float(weight.detach().float().std()) == pytest.approx((64 * 9) ** -0.5, rel=0.05)
    assert (unet.conv_norm_out.weight == 1).all() and (unet.conv_out.bias == 0).all()
