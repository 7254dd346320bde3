"""Text encoders and VAEs put into small Stable Diffusion checkpoints of every format."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, CLIPTextModel

from adaface.surgery.compose import PROVENANCE, compose
from adaface.surgery.weight_files import sha256_of
from flows.cli import main
from tests.adaface.surgery.ldm_checkpoint import World, ldm_state, ldm_vae, save_ldm

TOKENS = torch.tensor([[0, 5, 9, 3, 1, 1]])


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    return World(tmp_path_factory.mktemp("checkpoints"))


def load(path: Path, world: World) -> StableDiffusionPipeline:
    if path.is_dir():
        return StableDiffusionPipeline.from_pretrained(path, local_files_only=True)
    return StableDiffusionPipeline.from_single_file(str(path), config=str(world.folder), local_files_only=True)


def text_states(pipe: StableDiffusionPipeline) -> torch.Tensor:
    with torch.no_grad():
        return pipe.text_encoder(TOKENS).last_hidden_state


def decoded(pipe: StableDiffusionPipeline) -> torch.Tensor:
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        picture = pipe.vae.decode(latents).sample
        return torch.cat([picture.flatten(), pipe.vae.encode(picture).latent_dist.mean.flatten()])


def noise(pipe: StableDiffusionPipeline) -> torch.Tensor:
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        return pipe.unet(
            torch.randn(1, 4, 8, 8, generator=generator), 7, torch.randn(1, 6, 32, generator=generator)
        ).sample


# What comes out


@pytest.mark.parametrize("shape", ["file", "folder"])
def test_both_parts_are_those_of_the_donors_and_the_rest_is_the_base(world, tmp_path, shape):
    before = world.hashes()
    base, out = (world.file, tmp_path / "c.safetensors") if shape == "file" else (world.folder, tmp_path / "c")
    composed = compose(base, out, text_encoder=world.other_file, vae=world.other)
    pipe = load(out, world)
    assert torch.equal(text_states(pipe), text_states(world.donor))
    assert torch.equal(decoded(pipe), decoded(world.donor))
    assert torch.equal(noise(pipe), noise(world.base))
    assert not torch.equal(text_states(world.donor), text_states(world.base))
    assert [(part.title, part.tensors, part.differing) for part in composed.replaced] == [
        ("text encoder", 52, 52),
        ("VAE", 124, 124),
    ]
    assert world.hashes() == before
    assert [path for path in tmp_path.iterdir() if path != out] == []
    picture = pipe("a face", num_inference_steps=1, height=16, width=16, output_type="np").images
    assert picture.shape == (1, 16, 16, 3)


def test_the_summary_says_what_was_replaced_and_what_was_kept(world, tmp_path, capsys):
    out = tmp_path / "deep" / "c.safetensors"
    command = ["compose-base", "--base", str(world.file), "--vae", str(world.other / "vae"), "--out", str(out)]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "replaced  VAE: 124 tensors" in said and "124 float32 in" in said and "124 of them differ" in said
    assert "kept      1 EMA, 208 UNet, 1 other, 53 text encoder" in said
    assert main([*command]) == 2
    assert "exists already" in capsys.readouterr().err


def test_equal_inputs_give_equal_bytes_and_the_file_says_what_it_was_made_of(world, tmp_path):
    for name in ("one", "two"):
        compose(world.file, tmp_path / f"{name}.safetensors", text_encoder=world.other, vae=world.other)
        compose(world.folder, tmp_path / name, text_encoder=world.other)
    assert sha256_of([tmp_path / "one.safetensors"]) == sha256_of([tmp_path / "two.safetensors"])
    first, second = (
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in ("one", "two")
    )
    assert first == second
    with safe_open(tmp_path / "one.safetensors", "pt") as file:
        made_of = json.loads(file.metadata()["composition"])
    assert made_of["base"] == sha256_of([world.file])
    assert made_of["VAE"] == sha256_of([world.other / "vae" / "diffusion_pytorch_model.safetensors"])
    assert json.loads((tmp_path / "one" / PROVENANCE).read_text())["text encoder"] == made_of["text encoder"]


def test_a_part_that_is_the_same_already_is_said_to_be(world, tmp_path):
    composed = compose(world.file, tmp_path / "c.safetensors", vae=world.folder)
    assert composed.replaced[0].differing == 0
    assert "all equal those of the base" in "\n".join(composed.lines())


# Where a text encoder and a VAE may come from


def text_encoder_sources(world: World, root: Path) -> dict[str, Path]:
    text = {name.removeprefix("text_model."): value for name, value in world.donor.text_encoder.state_dict().items()}
    save_file(text, root / "bare.safetensors")
    save_file({f"text_model.{name}": value for name, value in text.items()}, root / "old.safetensors")
    torch.save({"state_dict": ldm_state(world.donor), "global_step": 3}, root / "file.ckpt")
    torch.save(text, root / "zipless.bin", _use_new_zipfile_serialization=False)
    both = CLIPModel(CLIPConfig(text_config=world.donor.text_encoder.config.to_dict(), projection_dim=16))
    both.text_model.load_state_dict(text)
    both.save_pretrained(root / "clip")
    return {
        "ldm file": world.other_file, "pipeline": world.other, "folder": world.other / "text_encoder",
        "bare": root / "bare.safetensors", "old names": root / "old.safetensors", "ckpt": root / "file.ckpt",
        "before zip": root / "zipless.bin", "both halves of CLIP": root / "clip",
    }  # fmt: skip


def vae_sources(world: World, root: Path) -> dict[str, Path]:
    state = {name: value.contiguous() for name, value in ldm_vae(world.donor.vae).items()}
    save_file(state, root / "vae.safetensors")
    save_file({f"first_stage_model.{name}": value for name, value in state.items()}, root / "prefixed.safetensors")
    torch.save({"state_dict": state | {"loss.logvar": torch.zeros(1)}}, root / "vae.ckpt")
    shutil.copytree(world.other / "vae", root / "old attention")
    weights = root / "old attention" / "diffusion_pytorch_model.safetensors"
    spelled = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    old = {}
    for name, value in load_file(weights).items():
        for new_name, old_name in spelled.items():
            name = name.replace(new_name, old_name)
        old[name] = value
    save_file(old, weights)
    return {
        "ldm": root / "vae.safetensors", "ldm with prefix": root / "prefixed.safetensors", "ckpt": root / "vae.ckpt",
        "whole file": world.other_file, "pipeline": world.other, "folder": world.other / "vae",
        "old attention": root / "old attention",
    }  # fmt: skip


def tensors(path: Path) -> dict[str, torch.Tensor]:
    files = [path] if path.is_file() else sorted(path.rglob("*.safetensors"))
    return {f"{file.parent.name} {name}": tensor for file in files for name, tensor in load_file(file).items()}


@pytest.mark.parametrize("shape", ["file", "folder"])
def test_every_format_gives_the_same_parts(world, tmp_path, shape):
    """As those of the donor's LDM file, which the first test loads and runs."""
    base, end = (world.file, ".safetensors") if shape == "file" else (world.folder, "")
    for part, sources in (("text_encoder", text_encoder_sources), ("vae", vae_sources)):
        out = tmp_path / part / f"expected{end}"
        compose(base, out, **{part: world.other_file})
        expected = {name.partition(" ")[2]: tensor for name, tensor in tensors(out).items()}
        for number, (source, path) in enumerate(sources(world, tmp_path).items()):
            out = tmp_path / part / f"{number}{end}"
            composed = compose(base, out, **{part: path})
            found = {name.partition(" ")[2]: tensor for name, tensor in tensors(out).items()}
            assert found.keys() == expected.keys(), source
            assert all(torch.equal(found[name], expected[name]) for name in expected), source
            assert composed.replaced[0].differing == composed.replaced[0].tensors, source


def test_the_base_may_be_sharded_a_variant_or_pickled(world, tmp_path):
    base = tmp_path / "base"
    world.base.save_pretrained(base, max_shard_size="300KB")
    assert len(list((base / "unet").glob("*-of-*.safetensors"))) > 1
    shutil.rmtree(base / "vae")
    world.base.vae.save_pretrained(base / "vae", variant="fp16")
    shutil.rmtree(base / "text_encoder")
    shutil.copytree(world.folder / "text_encoder", base / "text_encoder")
    torch.save(load_file(base / "text_encoder" / "model.safetensors"), base / "text_encoder" / "pytorch_model.bin")
    (base / "text_encoder" / "model.safetensors").unlink()
    (base / "v1-5-pruned.ckpt").write_bytes(b"not looked at")
    (base / "README.md").write_text("a card")
    composed = compose(base, tmp_path / "c", dtype=torch.float32)
    assert composed.left_out == ["v1-5-pruned.ckpt"]
    assert sorted(path.name for path in (tmp_path / "c" / "unet").iterdir()) == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
    ]
    assert (tmp_path / "c" / "README.md").read_text() == "a card"
    pipe = load(tmp_path / "c", world)
    assert torch.equal(noise(pipe), noise(world.base))
    assert torch.equal(text_states(pipe), text_states(world.base))
    assert torch.equal(decoded(pipe), decoded(world.base))


# Dtypes


def test_a_dtype_is_for_the_weights_and_not_for_the_tables_beside_them(world, tmp_path):
    composed = compose(world.file, tmp_path / "c.safetensors", vae=world.other, dtype=torch.float16)
    state = load_file(tmp_path / "c.safetensors")
    assert state["alphas_cumprod"].dtype == torch.float32
    assert state["cond_stage_model.transformer.text_model.embeddings.position_ids"].dtype == torch.int64
    assert composed.dtypes == {"float16": 385, "float32": 1, "int64": 1}
    expected = world.donor.vae.decoder.conv_in.weight.half()
    assert torch.equal(state["first_stage_model.decoder.conv_in.weight"], expected)


def test_a_folder_in_half_precision_is_loaded_in_half_precision(world, tmp_path):
    compose(world.folder, tmp_path / "c", text_encoder=world.other, dtype=torch.bfloat16)
    assert CLIPTextModel.from_pretrained(tmp_path / "c" / "text_encoder").dtype == torch.bfloat16
    pipe = StableDiffusionPipeline.from_pretrained(tmp_path / "c", local_files_only=True, dtype=torch.bfloat16)
    assert torch.equal(pipe.unet.conv_in.weight, world.base.unet.conv_in.weight.bfloat16())


def test_without_a_dtype_a_donor_takes_that_of_the_base(world, tmp_path):
    half = save_ldm(world.donor, tmp_path / "half.safetensors", torch.float16)
    composed = compose(world.file, tmp_path / "c.safetensors", text_encoder=half)
    assert composed.dtypes == {"float32": 386, "int64": 1}
    assert composed.replaced[0].dtypes == {"float16": 52}


def test_numbers_that_a_dtype_cannot_hold_are_refused(world, tmp_path):
    state = ldm_vae(world.donor.vae)
    state["decoder.conv_in.bias"] = torch.full_like(state["decoder.conv_in.bias"], 1e5)
    state["quant_conv.bias"] = torch.full_like(state["quant_conv.bias"], torch.nan)
    save_file({name: value.contiguous() for name, value in state.items()}, tmp_path / "vae.safetensors")
    with pytest.raises(ValueError, match=r"decoder.conv_in.bias holds 1e\+05, too large for torch.float16") as error:
        compose(world.file, tmp_path / "c.safetensors", vae=tmp_path / "vae.safetensors", dtype=torch.float16)
    assert "quant_conv.bias holds numbers that are not finite" in str(error.value)


@pytest.mark.parametrize("shape", ["file", "folder"])
def test_a_failure_while_writing_leaves_nothing(world, tmp_path, shape):
    state = {name: value.clone() for name, value in ldm_state(world.base).items()}
    state["model.diffusion_model.out.2.bias"].fill_(1e6)
    save_file(state, tmp_path / "base.safetensors")
    shutil.copytree(world.folder, tmp_path / "base")
    unet = tmp_path / "base" / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(unet)
    weights["conv_out.bias"].fill_(1e6)
    save_file(weights, unet)
    end = ".safetensors" if shape == "file" else ""
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match=r"too large for torch.float16; use bf16 or fp32"):
        compose(tmp_path / f"base{end}", tmp_path / "out" / f"c{end}", dtype=torch.float16)
    assert list((tmp_path / "out").iterdir()) == []
