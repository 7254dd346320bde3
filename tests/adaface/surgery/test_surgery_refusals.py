"""What `adaface compose-base` does not do: sources that do not fit, are damaged or hostile, outputs that make no sense."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from adaface.surgery.compose import compose
from tests.adaface.surgery.ldm_checkpoint import World, ldm_state, ldm_vae, tiny_pipeline


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    return World(tmp_path_factory.mktemp("checkpoints"))


def test_every_misfit_of_both_donors_is_named_and_nothing_is_written(world, tmp_path):
    state = {name: value.contiguous() for name, value in ldm_vae(world.donor.vae).items()}
    del state["encoder.conv_in.weight"], state["decoder.mid.attn_1.q.weight"]
    state["decoder.norm_out.bias"] = torch.zeros(7)
    state["decoder.surprise.weight"] = torch.zeros(2)
    save_file(state, tmp_path / "vae.safetensors")
    text = load_file(world.other / "text_encoder" / "model.safetensors")
    last = [name for name in text if "layers.2." in name]
    save_file({name: value for name, value in text.items() if name not in last}, tmp_path / "text.safetensors")
    with pytest.raises(ValueError) as error:
        compose(
            world.file,
            tmp_path / "c.safetensors",
            text_encoder=tmp_path / "text.safetensors",
            vae=tmp_path / "vae.safetensors",
        )
    said = str(error.value)
    assert said.startswith("nothing was written")
    for expected in (
        "lacks encoder.conv_in.weight",
        "lacks decoder.mid_block.attentions.0.to_q.weight",
        "decoder.norm_out.bias is (7,), the base has (32,)",
        "has decoder.surprise.weight, which the base has not",
        *(f"lacks {name}" for name in last),
        "-> take the VAE of a complete model of the base's family",
    ):
        assert expected in said, expected
    assert len(last) == 16 and not (tmp_path / "c.safetensors").exists()


def test_a_text_encoder_of_another_width_is_told_apart(world, tmp_path):
    tiny_pipeline(2, width=48).text_encoder.save_pretrained(tmp_path / "wide")
    with pytest.raises(
        ValueError, match=r"the base's text encoder is 32 wide, that of .*wide 48: take one of the same"
    ):
        compose(world.folder, tmp_path / "c", text_encoder=tmp_path / "wide")


def test_settings_that_shapes_do_not_show_must_agree(world, tmp_path):
    """The VAE of SDXL has the shapes of that of SD 1.5, and another scale of its latents."""
    tiny_pipeline(2, scaling_factor=0.13025).vae.save_pretrained(tmp_path / "vae")
    shutil.copytree(world.other / "text_encoder", tmp_path / "text")
    config = json.loads((tmp_path / "text" / "config.json").read_text())
    config |= {"num_attention_heads": 8, "hidden_act": "gelu"}
    (tmp_path / "text" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"made for scaling_factor = 0.13025, the base has 0.18215") as error:
        compose(world.folder, tmp_path / "c", vae=tmp_path / "vae", text_encoder=tmp_path / "text")
    assert "num_attention_heads = 8, the base has 4" in str(error.value)
    assert "hidden_act = 'gelu', the base has 'quick_gelu'" in str(error.value)
    with pytest.raises(ValueError, match=r"scaling_factor = 0.13025, a single file of SD 1.5 has 0.18215"):
        compose(world.file, tmp_path / "c.safetensors", vae=tmp_path / "vae")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["cond_stage_model.model.ln_final.weight"], "a checkpoint of SD 2"),
        (["conditioner.embedders.1.model.ln_final.weight"], "a checkpoint of SDXL"),
        (["lora_te_text_model_encoder_layers_0_mlp_fc1.alpha"], "it is a LoRA"),
        (["nothing.known"], "holds no text encoder of Stable Diffusion 1.5"),
    ],
)
def test_a_file_of_another_kind_is_recognised(world, tmp_path, names, said):
    save_file({name: torch.zeros(1) for name in names}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=said):
        compose(world.file, tmp_path / "c.safetensors", text_encoder=tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"no checkpoint of SD 1.5: it has no tensor named model.diffusion_model"):
        compose(tmp_path / "other.safetensors", tmp_path / "c.safetensors", vae=world.other)


def test_damaged_files_say_so(world, tmp_path):
    (tmp_path / "empty.safetensors").touch()
    (tmp_path / "lfs.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    (tmp_path / "cut.safetensors").write_bytes(world.file.read_bytes()[:-100])
    torch.save({"a": torch.zeros(1000)}, tmp_path / "whole.ckpt")
    (tmp_path / "cut.ckpt").write_bytes((tmp_path / "whole.ckpt").read_bytes()[:2000])
    for name, said in (
        ("empty.safetensors", "is empty"),
        ("lfs.safetensors", "pointer of git-lfs"),
        ("cut.safetensors", "not a sound .safetensors file"),
        ("cut.ckpt", "not a sound checkpoint|holds more than tensors"),
        ("missing.safetensors", "does not exist"),
    ):
        with pytest.raises(ValueError, match=said):
            compose(world.file, tmp_path / "c.safetensors", vae=tmp_path / name)


class Command:
    """What a hostile checkpoint holds: a call that runs when the file is unpickled in the ordinary way."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.file),)


def test_nothing_in_a_pickle_runs(world, tmp_path):
    effect = tmp_path / "effect"
    torch.save({"state_dict": ldm_state(world.donor), "callbacks": Command(effect)}, tmp_path / "x.ckpt")
    for arguments in (
        {"base": world.file, "vae": tmp_path / "x.ckpt"},
        {"base": tmp_path / "x.ckpt", "vae": world.other},
    ):
        with pytest.raises(ValueError, match=r"nothing of it was run. Take the .safetensors file of the same model"):
            compose(out=tmp_path / "c.safetensors", **arguments)
        assert not effect.exists() and not (tmp_path / "c.safetensors").exists()
    torch.load(tmp_path / "x.ckpt", weights_only=False)
    assert effect.exists()  # so the file was a real threat


# Where to


def test_outputs_that_make_no_sense_are_refused(world, tmp_path):
    for base, out, said in (
        (world.file, tmp_path / "c", "end its name in .safetensors"),
        (world.folder, tmp_path / "c.safetensors", "name a folder, not c.safetensors"),
        (world.folder, world.folder / "inside", "lies inside the base"),
        (world.folder, world.other, "exists already"),
    ):
        with pytest.raises(ValueError, match=said):
            compose(base, out, vae=world.other)
    with pytest.raises(ValueError, match="nothing to do"):
        compose(world.file, tmp_path / "c.safetensors")
    with pytest.raises(FileNotFoundError, match=r"no model_index.json"):
        compose(world.folder / "vae", tmp_path / "c", vae=world.other)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        compose(tmp_path / "nothing", tmp_path / "c", vae=world.other)
