"""The text encoder and the VAE inside a checkpoint of any format, and whether one fits in the place of another."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from diffusers import AutoencoderKL
from transformers import CLIPTextConfig

from adaface.surgery.ldm_keys import SD2_TEXT, SDXL_TEXT, same_shape, text_names, vae_names
from adaface.surgery.weight_files import PICKLES, SAFETENSORS, Weights, open_weights

Kind = Literal["text_encoder", "vae"]
TITLES: dict[Kind, str] = {"text_encoder": "text encoder", "vae": "VAE"}
# Settings that change what a model computes and cannot be seen in the shapes of its weights.
_SETTINGS: dict[Kind, tuple[str, ...]] = {
    "text_encoder": ("hidden_act", "layer_norm_eps", "num_attention_heads"),
    "vae": ("act_fn", "norm_num_groups", "scaling_factor", "shift_factor", "latents_mean", "latents_std"),
}


@dataclass(frozen=True)
class Part:
    """One model of a checkpoint. `names`: {common spelling: name in the file}; `settings` is None for a bare file."""

    kind: Kind
    where: Path
    weights: Weights
    names: Mapping[str, str]
    settings: Mapping[str, object] | None

    @property
    def width(self) -> int | None:
        """Width of a text encoder."""
        name = self.names.get("final_layer_norm.weight")
        return self.weights.info[name].shape[0] if name else None


def find_part(kind: Kind, source: Path) -> Part:
    """The text encoder or VAE of a single file, a diffusers folder, or a folder of that model alone.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: what is there holds no such model, with what it seems to be.
    """
    if source.is_dir():
        folder = source / kind if (source / kind).is_dir() else source
        weights = open_weights(weights_in(folder))
        settings: dict | None = _settings(folder / "config.json", kind)
    else:
        folder, weights, settings = source, open_weights(source), None
    return part_of(kind, folder, weights, settings)


def part_of(kind: Kind, where: Path, weights: Weights, settings: Mapping[str, object] | None) -> Part:
    """The part among weights that are already open; raises ValueError where it is not among them."""
    names = text_names(weights.info) if kind == "text_encoder" else vae_names(weights.info)
    if not names:
        raise ValueError(f"{where} holds no {TITLES[kind]} of Stable Diffusion 1.5{_what_it_is(weights)}")
    return Part(kind, where, weights, names, settings)


def weights_in(folder: Path) -> Path:
    """The file of weights in the folder of one model: safetensors before pickles, full precision before fp16.

    Raises FileNotFoundError where there is none.
    """
    found = [file for file in sorted(folder.glob("*")) if is_weights(file) and "non_ema" not in file.name]
    index = [file for file in found if file.name.endswith(f"{SAFETENSORS}.index.json")]
    shards = [file for file in found if "-of-0" in file.name]
    single = [file for file in found if file not in index and file not in shards]
    for files in (
        [file for file in single if file.suffix == SAFETENSORS and file.name.count(".") == 1],
        index,
        [file for file in single if file.suffix == SAFETENSORS],
        single,
    ):
        if files:
            return files[0]
    raise FileNotFoundError(
        f"{folder} holds no weights ({SAFETENSORS}, {', '.join(PICKLES)}); name a single file, a diffusers folder, or "
        "the folder of the model"
    )


def is_weights(file: Path) -> bool:
    """Whether a file holds weights or is the index of several that do."""
    return file.suffix in (SAFETENSORS, *PICKLES) or file.name.endswith(f"{SAFETENSORS}.index.json")


def misfits(base: Part, donor: Part) -> list[str]:
    """Everything that keeps `donor` from standing in the place of `base`, one sentence each."""
    what = f"{TITLES[base.kind]} of {donor.where}"
    problems = []
    for name in sorted(base.names.keys() | donor.names.keys()):
        here, there = base.names.get(name), donor.names.get(name)
        if there is None:
            problems.append(f"the {what} lacks {name}")
        elif here is None:
            problems.append(f"the {what} has {there}, which the base has not")
        else:
            mine, theirs = base.weights.info[here].shape, donor.weights.info[there].shape
            if not same_shape(name, mine, theirs):
                problems.append(f"the {what}: {there} is {theirs}, the base has {mine}")
            elif not donor.weights.info[there].dtype.is_floating_point:
                problems.append(f"the {what}: {there} is {donor.weights.info[there].dtype}, not floating point")
    if problems:
        problems.append(_remedy(base, donor))
    return problems + _other_settings(base, donor, what)


def _other_settings(base: Part, donor: Part, what: str) -> list[str]:
    if donor.settings is None:
        return []
    wanted = dict(base.settings) if base.settings is not None else _of_a_bare_file(base)
    different = [
        (key, donor.settings[key], wanted[key]) for key in wanted if not _equal(donor.settings[key], wanted[key])
    ]
    base_has = "the base" if base.settings is not None else "a single file of SD 1.5"
    return [
        f"the {what} is made for {key} = {theirs!r}, {base_has} has {mine!r}: the same weights would compute "
        "something else; take a model of the base's family"
        for key, theirs, mine in different
    ]


def _of_a_bare_file(base: Part) -> dict[str, object]:
    """The settings that a loader gives a single SD 1.5 file, where it cannot read them."""
    settings: dict[str, object] = _defaults(base.kind)
    if base.kind == "text_encoder":
        # CLIP-L/14 and every CLIP text model of the time have heads of 64; of other widths nothing is known
        settings["num_attention_heads"] = 12
        if base.width != 768:
            del settings["num_attention_heads"]
    return settings


def _settings(config: Path, kind: Kind) -> dict[str, object] | None:
    if not config.is_file():
        return None
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
        content = content.get("text_config") or content if kind == "text_encoder" else content
        return {key: content.get(key, value) for key, value in _defaults(kind).items()}
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{config} is not the configuration of a model: {error}") from error


def _defaults(kind: Kind) -> dict[str, object]:
    if kind == "text_encoder":
        config = CLIPTextConfig()
        return {key: getattr(config, key) for key in _SETTINGS[kind]}
    parameters = inspect.signature(AutoencoderKL.__init__).parameters
    return {key: parameters[key].default for key in _SETTINGS[kind]}


def _equal(one: object, other: object) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return abs(one - other) <= 1e-6 * abs(one)
    return one == other


def _remedy(base: Part, donor: Part) -> str:
    guess = _what_it_is(donor.weights)
    if guess:
        return f"-> {donor.where}{guess}"
    if base.kind == "text_encoder" and base.width != donor.width:
        return (
            f"-> the base's text encoder is {base.width} wide, that of {donor.where} {donor.width}: take one of the "
            "same family (CLIP ViT-L/14, 768 wide, for SD 1.5)"
        )
    return f"-> take the {TITLES[base.kind]} of a complete model of the base's family; download a damaged file again"


def _what_it_is(weights: Weights) -> str:
    if any(name.startswith(SD2_TEXT) for name in weights.info):
        return "; it is a checkpoint of SD 2 (OpenCLIP text encoder): take one of SD 1.5"
    if any(name.startswith(SDXL_TEXT) for name in weights.info):
        return "; it is a checkpoint of SDXL: take one of SD 1.5"
    if any(name.startswith(("lora_", "text_encoder.", "unet.")) for name in weights.info):
        return "; it is a LoRA: load it into the pipeline instead (pipe.load_lora_weights)"
    return ""
