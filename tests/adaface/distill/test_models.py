"""The networks that stay as they are."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from adaface.distill.models import load_frozen
from tests.adaface.distill.conftest import Tiny
from tests.tiny_distill import PIXELS, WIDTH


def test_nothing_of_them_can_be_trained(tiny: Tiny) -> None:
    models = tiny.models
    for network in (models.unet, models.text, models.vae, models.teacher):
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())


def test_latents_are_the_posterior_s_mean_and_deviation(tiny: Tiny) -> None:
    pictures = torch.rand(2, 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(1)) * 2 - 1
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    posterior = tiny.models.vae.encode(pictures).latent_dist
    expected = (posterior.mean + posterior.std * noise) * tiny.models.latent_scale
    torch.testing.assert_close(tiny.models.encode(pictures, noise), expected)
    assert tiny.models.decode(expected).shape == pictures.shape
    assert float(tiny.models.decode(1e3 * expected).abs().max()) <= 1


def test_low_precision_comes_out_as_float32(tiny: Tiny) -> None:
    low = load_frozen(str(tiny.folder / "base"), str(tiny.folder / "teacher/unet"), precision="bf16", vae=False)
    generator = torch.Generator().manual_seed(3)
    x, states = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 77, WIDTH, generator=generator)
    t = torch.tensor([10, 900])
    high = tiny.models.predict(tiny.models.unet, states)(x, t)
    found = low.predict(low.unet, states)(x, t)
    assert found.dtype == torch.float32
    assert 0 < float((found - high).abs().max()) < 0.1 * float(high.abs().max())


def test_without_a_vae_nothing_is_encoded_or_decoded(tiny: Tiny) -> None:
    models = load_frozen(str(tiny.folder / "base"), str(tiny.folder / "teacher/unet"), vae=False)
    with pytest.raises(ValueError, match="no VAE; load one, or cache latents"):
        models.encode(torch.zeros(1, 3, PIXELS, PIXELS), torch.zeros(1, 4, 8, 8))
    with pytest.raises(ValueError, match="no VAE"):
        models.decode(torch.zeros(1, 4, 8, 8))


def test_half_a_teacher_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    unet = shutil.copytree(tiny.folder / "teacher/unet", tmp_path / "unet")
    file = unet / "diffusion_pytorch_model.safetensors"
    kept = {name: tensor for name, tensor in load_file(file).items() if not name.startswith("conv_in")}
    save_file(kept, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"no whole UNet: 2 tensors are missing, conv_in.bias first"):
        load_frozen(str(tiny.folder / "base"), str(unet))


def test_a_teacher_of_another_kind_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    shutil.copytree(tiny.folder / "teacher/unet", tmp_path / "unet")
    config = dict(UNet2DConditionModel.load_config(tmp_path / "unet"))
    config.update(sample_size=16, cross_attention_dim=WIDTH + 1)
    UNet2DConditionModel.from_config(config).save_pretrained(tmp_path / "unet")
    with pytest.raises(ValueError, match=r"cannot teach .*cross_attention_dim is 192 .* and 193.*sample_size is 8"):
        load_frozen(str(tiny.folder / "base"), str(tmp_path / "unet"))


@pytest.mark.parametrize("place", ["/no/such/base", "./base", "a/b/c"])
def test_what_is_not_there(place: str, tiny: Tiny) -> None:
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        load_frozen(place, str(tiny.folder / "teacher/unet"))
