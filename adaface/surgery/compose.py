"""A Stable Diffusion checkpoint with the text encoder and the VAE of others: `adaface compose-base`.

The original was trained and used on SD 1.5 with the text encoder of DreamShaper 8 and the VAE `ft-mse-840000`, put
together by `repl_textencoder.py` and `repl_vae.py`. Those keep a tensor of the base wherever the donor's name or shape
differs, and mix dtypes; here every tensor of a part is replaced, or nothing is written.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from adaface.surgery.ldm_keys import LDM_UNET, SDXL_TEXT
from adaface.surgery.parts import Kind, find_part, is_weights, part_of, weights_in
from adaface.surgery.plan import Checkpoint, Plan, Replaced, make_plan
from adaface.surgery.weight_files import SAFETENSORS, Weights, open_weights, sha256_of, write_safetensors

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
PROVENANCE = "composition.json"  # in a folder; a single file carries the same in its header
_NEEDED = ("unet", "text_encoder", "vae")
_OTHER_FRAMEWORKS = (".msgpack", ".h5", ".onnx", ".pb", ".xml")
_ABOUT = ("README.md", "LICENSE", "LICENSE.md", "LICENSE.txt")


@dataclass(frozen=True)
class Composition:
    """What `compose` wrote. Counts are of tensors, sizes in bytes."""

    out: str
    replaced: list[Replaced]
    kept: dict[str, int]
    bytes: int
    dtypes: dict[str, int]
    left_out: list[str]  # files of a base folder that are no part of the pipeline

    def lines(self) -> list[str]:
        """The summary for people."""
        text = [f"{self.out}: {_size(self.bytes)}, {_counts(self.dtypes)}"]
        for part in self.replaced:
            change = f"{part.differing} of them differ from the base's, by up to {part.largest:.3g}"
            text.append(
                f"replaced  {part.title}: {part.tensors} tensors, {_size(part.bytes)}, {_counts(part.dtypes)} in "
                f"{part.source}; {change if part.differing else 'all equal those of the base'}"
            )
        text.append(f"kept      {_counts(self.kept) or 'nothing'}")
        if self.left_out:
            text.append(f"left out  {', '.join(self.left_out)}")
        return text


def compose(
    base: Path,
    out: Path,
    *,
    text_encoder: Path | None = None,
    vae: Path | None = None,
    dtype: torch.dtype | None = None,
) -> Composition:
    """Write `out`: the checkpoint `base` with the text encoder and the VAE of others. The sources are only read.

    Args:
        base: SD 1.5 as a single file in LDM names, or as a diffusers folder; `out` has the same format.
        out: a .safetensors file, or a folder; must not exist yet. Written whole or not at all.
        text_encoder: a single file, a diffusers folder, or the folder of a text encoder; None keeps the base's.
        vae: a single file, a diffusers folder, or the folder of an AutoencoderKL; None keeps the base's.
        dtype: of all weights; None keeps that of each tensor of the base.

    Raises:
        FileNotFoundError: the base is not there.
        ValueError: something does not fit, with all reasons; or a number is not finite in the dtype asked for.
    """
    donors: dict[Kind, Path] = {}
    if text_encoder is not None:
        donors["text_encoder"] = text_encoder
    if vae is not None:
        donors["vae"] = vae
    if not donors and dtype is None:
        raise ValueError("nothing to do: name a text encoder, a VAE or a dtype")
    if not base.exists():
        raise FileNotFoundError(f"{base} does not exist; `adaface models` lists what can be downloaded")
    _check_out(base, out)
    checkpoint = _folder(base) if base.is_dir() else _single_file(base)
    plan = make_plan(checkpoint, donors, dtype)
    out.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out.parent).free
    if free < plan.bytes:
        raise ValueError(f"{out} takes {_size(plan.bytes)}, and {_size(free)} are free there; name another place")
    made_of = _provenance(checkpoint, plan)
    left_out: list[str] = []
    if base.is_dir():
        left_out = _write_folder(checkpoint, plan, out, made_of)
    else:
        write_safetensors(out, plan.info[""], plan.reader(""), {"composition": json.dumps(made_of)})
    return Composition(str(out), plan.replaced, plan.kept, plan.bytes, plan.dtypes, left_out)


def _check_out(base: Path, out: Path) -> None:
    if out.exists():
        raise ValueError(f"{out} exists already; name a new one, or remove it first")
    if base.is_dir() and out.resolve().is_relative_to(base.resolve()):
        raise ValueError(f"{out} lies inside the base {base}, which is only read; name another place")
    if base.is_dir() and out.suffix in (SAFETENSORS, ".ckpt"):
        raise ValueError(f"the base {base} is a folder, so the result is one: name a folder, not {out.name}")
    if not base.is_dir() and out.suffix != SAFETENSORS:
        raise ValueError(f"the base {base} is a single file, so the result is one: end its name in {SAFETENSORS}")


def _single_file(base: Path) -> Checkpoint:
    weights = open_weights(base)
    if not any(name.startswith(LDM_UNET) for name in weights.info):
        kind = "; it is one of SDXL or SD 3" if any(name.startswith(SDXL_TEXT) for name in weights.info) else ""
        raise ValueError(f"{base} is no checkpoint of SD 1.5: it has no tensor named {LDM_UNET}...{kind}")
    kinds: tuple[Kind, ...] = ("text_encoder", "vae")
    parts = {kind: part_of(kind, base, weights, None) for kind in kinds}
    return Checkpoint(base, {"": weights}, parts, dict.fromkeys(kinds, ""))


def _folder(base: Path) -> Checkpoint:
    index = base / "model_index.json"
    if not index.is_file():
        raise FileNotFoundError(f"{base} has no model_index.json: name a diffusers pipeline folder, or a single file")
    components = _components(index)
    absent = [name for name in _NEEDED if name not in components or not (base / name).is_dir()]
    if absent or "text_encoder_2" in components:
        said = f"it has no {', '.join(absent)}" if absent else "it has a second text encoder"
        raise ValueError(f"{base} is no pipeline of SD 1.5: {said}")
    models: dict[str, Weights] = {}
    for name in components:
        folder = base / name
        if folder.is_dir() and (name in _NEEDED or any(is_weights(file) for file in folder.iterdir())):
            models[name] = open_weights(weights_in(folder))
    kinds: tuple[Kind, ...] = ("text_encoder", "vae")
    return Checkpoint(
        base, models, {kind: find_part(kind, base / kind) for kind in kinds}, {kind: kind for kind in kinds}
    )


def _components(index: Path) -> list[str]:
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        return [name for name, value in content.items() if isinstance(value, list) and value and value[0]]
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{index} is not the index of a pipeline: {error}") from error


def _write_folder(base: Checkpoint, plan: Plan, out: Path, made_of: Mapping[str, object]) -> list[str]:
    """Returns the files of the base that are not part of the result."""
    fresh = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent))
    taken = {file for weights in base.models.values() for file in weights.files}
    try:
        for file in sorted(base.where.rglob("*")):
            inside = file.relative_to(base.where)
            known = inside.parts[0] in (*_components(base.where / "model_index.json"), "model_index.json", *_ABOUT)
            if file.is_file() and known and not is_weights(file) and file.suffix not in _OTHER_FRAMEWORKS:
                (fresh / inside).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, fresh / inside)
                taken.add(file)
        for model, weights in base.models.items():
            write_safetensors(fresh / model / _standard_name(weights), plan.info[model], plan.reader(model), {})
            _record_dtype(fresh / model / "config.json", plan, model)
        (fresh / PROVENANCE).write_text(json.dumps(made_of, indent=2) + "\n", encoding="utf-8")
        fresh.chmod(0o755)  # mkdtemp gives it to nobody else
        os.rename(fresh, out)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    hidden = [file for file in base.where.rglob("*") if file.is_file() and file not in taken]
    names = [file.relative_to(base.where) for file in hidden]
    return sorted(name.as_posix() for name in names if not name.parts[0].startswith("."))


def _standard_name(weights: Weights) -> str:
    """The name that loaders look for, without variant and number of shards."""
    stem = "diffusion_pytorch_model" if weights.files[0].name.startswith("diffusion_pytorch_model") else "model"
    return stem + SAFETENSORS


def _record_dtype(config: Path, plan: Plan, model: str) -> None:
    """transformers loads a model in the dtype that its configuration names, whatever the weights have."""
    if not config.is_file():
        return
    content = json.loads(config.read_text(encoding="utf-8"))
    widths = {
        str(info.dtype).removeprefix("torch.") for info in plan.info[model].values() if info.dtype.is_floating_point
    }
    for key in ("dtype", "torch_dtype"):
        if key in content and len(widths) == 1:
            content[key] = next(iter(widths))
            config.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _provenance(base: Checkpoint, plan: Plan) -> dict[str, object]:
    """Hashes of what the result was made of; no paths, so that equal inputs give equal bytes."""
    files = sorted({file for weights in base.models.values() for file in weights.files})
    return {
        "base": sha256_of(files),
        **{part.title: part.sha256 for part in plan.replaced},
        "dtypes": plan.dtypes,
    }


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items())


def _size(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
