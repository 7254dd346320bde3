"""An encoder as a folder: config.json, adaface.safetensors, README.md (model card) and, when copied, teacher/.

Nothing in such a folder can run: the weights are safetensors, the configuration is JSON. A folder is written beside its
place and then moved there, so that readers find a whole one or none; equal weights give equal bytes.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTextModel

from adaface.encoder.background import BackgroundGenerator
from adaface.encoder.config import EncoderConfig
from adaface.encoder.model_card import model_card
from adaface.encoder.multi_kv import give_copies
from adaface.model_path import PREFIX, may_be_on_the_hub, model_path

if TYPE_CHECKING:
    from adaface.encoder.model import AdaFaceEncoder

FORMAT = "adaface-encoder/1"
CONFIG, WEIGHTS, CARD, TEACHER = "config.json", "adaface.safetensors", "README.md", "teacher"
_OURS = {CONFIG, WEIGHTS, CARD, TEACHER}
Encoder = TypeVar("Encoder", bound="AdaFaceEncoder")


def save(encoder: AdaFaceEncoder, folder: Path, *, teacher: Literal["copy", "reference"] = "copy") -> Path:
    """Writes an encoder's folder, whole or not at all; one that is there is replaced when it is an encoder's.

    Args:
        teacher: "copy" puts the teacher's text encoder into the folder, which then stands alone (0.5 GB more for CLIP
            ViT-L); "reference" writes where it lies: as `config.teacher` says or, for one that was read from beside
            another encoder's files, the relative path to that.

    Raises:
        FileExistsError: when the folder has anything else in it.
        ValueError: for a reference to a teacher that lies nowhere.
    """
    if teacher not in ("copy", "reference"):
        raise ValueError(f'teacher is "copy" or "reference", not {teacher!r}')
    folder = Path(os.path.abspath(folder))
    _check_free(folder)
    config = _with_teacher(encoder, folder, teacher)
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    try:
        weights = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in encoder.state_dict().items()
            if not name.startswith("teacher.")
        }
        save_file(weights, fresh / WEIGHTS, metadata={"format": FORMAT})
        settings = {"format": FORMAT, **config.to_dict()}
        (fresh / CONFIG).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        (fresh / CARD).write_text(model_card(config, weights), encoding="utf-8")
        if teacher == "copy":
            encoder.teacher.save_pretrained(fresh / TEACHER)
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        if old.exists() and not folder.exists():
            old.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    return folder


@dataclass(frozen=True)
class Stored:
    """What was read of an encoder; all sizes are checked."""

    config: EncoderConfig
    weights: dict[str, Tensor]
    teacher: CLIPTextModel
    teacher_folder: Path | None

    def build(self, kind: type[Encoder], **gradients: float) -> Encoder:
        """float32, on the CPU. Draws no random numbers."""
        with torch.device("meta"):
            encoder = kind(self.config, self.teacher, **gradients)
        for module in (encoder.inverse, encoder.background):
            if module is not None:
                module.to_empty(device="cpu")
        embeddings = encoder.inverse.embeddings
        embeddings.position_ids.copy_(torch.arange(self.config.window))  # no weight, and empty as yet
        encoder.layer_weights = nn.Parameter(torch.empty_like(self.weights["layer_weights"], dtype=torch.float32))
        if "pad_table" in self.weights:
            encoder.pad_table = torch.empty_like(self.weights["pad_table"], dtype=torch.float32)
        encoder.load_state_dict(self.weights, strict=False)  # the names were checked; the teacher has its own weights
        encoder.teacher_folder = self.teacher_folder
        return encoder


def read(source: str | Path, *, teacher: str | CLIPTextModel | None = None) -> Stored:
    """Reads an encoder's folder; see `AdaFaceEncoder.from_pretrained`."""
    folder = locate(source)
    config = read_config(folder)
    weights = read_weights(folder, config)
    if isinstance(teacher, str):
        config = replace(config, teacher=teacher, teacher_subfolder="")
    if teacher is None or isinstance(teacher, str):
        text, lies = load_teacher(config, folder)
        return Stored(config, weights, text, lies)
    return Stored(config, weights, teacher, None)


def locate(source: str | Path) -> Path:
    """The local folder of an encoder: a path, `package://PACKAGE/PATH`, or a repository of the hub, downloaded.

    Raises FileNotFoundError when there is none.
    """
    folder = model_path(source)
    if folder.is_dir():
        return folder
    if folder.exists() or not may_be_on_the_hub(str(source)):
        raise FileNotFoundError(f"{source}: there is no such folder of an encoder (nor is it a name of the hub)")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(source), allow_patterns=[CONFIG, WEIGHTS, CARD, f"{TEACHER}/*"]))
    except (OSError, ValueError) as error:  # no network, no such repository, no access
        raise FileNotFoundError(f"{source}: there is no such folder, and the hub did not give it: {error}") from error


def read_config(folder: Path) -> EncoderConfig:
    """Raises FileNotFoundError without a config.json, ValueError when it is not an encoder's."""
    path = folder / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {CONFIG}: it is not an encoder's folder")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    found = values.pop("format", None) if isinstance(values, dict) else None
    if found != FORMAT:
        raise ValueError(
            f"{path} is not that of an encoder: its format is {found!r}, not {FORMAT!r}"
            + ("; a checkpoint of the original is read by `adaface convert`" if found is None else "")
        )
    try:
        return EncoderConfig.from_dict(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def weight_problems(weights: Mapping[str, Tensor], config: EncoderConfig) -> list[str]:
    """What keeps these tensors (names of adaface.safetensors) from being an encoder of this configuration."""
    with torch.device("meta"):
        parts = nn.ModuleDict({"inverse": CLIPTextModel(config.clip_config())})
        give_copies(parts["inverse"], config.multipliers)
        if config.background:
            parts["background"] = BackgroundGenerator(config.width, config.background)
    shapes = {name: tuple(tensor.shape) for name, tensor in parts.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if (table := given.pop("pad_table", None)) is not None:
        shapes["pad_table"] = (config.window, config.width)
        given["pad_table"] = table
    mixed = given.pop("layer_weights", None)
    problems = [f"{name} is missing" for name in shapes if name not in given]
    problems += [f"{name} is unknown" for name in given if name not in shapes]
    problems += [
        f"{name} is {given[name]}, not {shape}" for name, shape in shapes.items() if given.get(name, shape) != shape
    ]
    layers = config.text["num_hidden_layers"]
    if mixed is None:
        problems.append("layer_weights is missing")
    elif len(mixed) != 2 or not 1 <= mixed[0] <= layers + 1 or mixed[1] not in (1, config.width):
        problems.append(f"layer_weights is {mixed}, not (n, 1) or (n, {config.width}) with n in 1..{layers + 1}")
    problems += [f"{name} is {tensor.dtype}" for name, tensor in weights.items() if not tensor.is_floating_point()]
    return sorted(problems)


def read_weights(folder: Path, config: EncoderConfig) -> dict[str, Tensor]:
    """The tensors of an encoder's folder; their numbers are read from the disk when somebody wants them.

    Raises FileNotFoundError without adaface.safetensors, ValueError for one that is cut off or does not fit.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: the encoder's folder is not whole")
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from error
    if problems := weight_problems(weights, config):
        raise ValueError(f"{path} does not fit its {CONFIG}: " + "; ".join(problems))
    return weights


def teacher_place(config: EncoderConfig, folder: Path) -> str:
    """The folder of the teacher, or its name on the hub where there is no such folder.

    Raises FileNotFoundError for what can be neither, ValueError as `model_path`.
    """
    name = config.teacher
    if not name:
        raise FileNotFoundError(f'{folder} does not say where its teacher lies; give teacher="path or hub id"')
    beside = folder / name
    local = beside if not name.startswith(PREFIX) and beside.is_dir() else model_path(name)
    if not local.is_dir() and not may_be_on_the_hub(name):
        raise FileNotFoundError(
            f'{folder}: its teacher is not at {name!r}; give teacher="path or hub id" (the text encoder of Arc2Face)'
        )
    return str(local) if local.is_dir() else name


def has_teacher(folder: Path) -> bool:
    """Whether an encoder's folder has its teacher with it, or beside it. Raises as `read_config`."""
    name = read_config(folder).teacher
    return bool(name) and not name.startswith(PREFIX) and not Path(name).is_absolute() and (folder / name).is_dir()


def load_teacher(config: EncoderConfig, folder: Path) -> tuple[CLIPTextModel, Path | None]:
    """The teacher, and its folder when that was named relative to the encoder's.

    Raises FileNotFoundError when it is not there, ValueError when it is not whole or of another width.
    """
    where = teacher_place(config, folder)
    try:
        text, loaded = CLIPTextModel.from_pretrained(
            where, subfolder=config.teacher_subfolder, dtype=torch.float32, output_loading_info=True
        )
    except OSError as error:
        raise FileNotFoundError(f"the teacher cannot be read from {where}: {error}") from error
    if loaded["missing_keys"]:  # transformers would fill them with random numbers
        missing = sorted(loaded["missing_keys"])
        raise ValueError(f"{where} is not a CLIP text model: {len(missing)} tensors are missing, {missing[0]} first")
    if text.config.hidden_size != config.width:
        raise ValueError(f"the teacher in {where} is {text.config.hidden_size} wide, the encoder {config.width}")
    beside = folder / config.teacher
    return text, beside if where == str(beside) and not Path(config.teacher).is_absolute() else None


def _with_teacher(encoder: AdaFaceEncoder, folder: Path, teacher: str) -> EncoderConfig:
    config = encoder.config
    if teacher == "copy":
        return replace(config, teacher=TEACHER, teacher_subfolder="")
    if encoder.teacher_folder is not None:
        return replace(config, teacher=Path(os.path.relpath(encoder.teacher_folder, folder)).as_posix())
    if not config.teacher:
        raise ValueError('nothing says where the teacher lies: set config.teacher, or save with teacher="copy"')
    return config


def _check_free(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FileExistsError(f"{folder} is a file")
    names = {path.name for path in folder.iterdir()}
    if not names:
        return
    if others := sorted(names - _OURS):
        raise FileExistsError(f"{folder} holds other files ({', '.join(others[:3])}); choose another folder")
    try:
        read_config(folder)
    except (ValueError, FileNotFoundError) as error:
        raise FileExistsError(f"{folder} is not an encoder's folder; choose another one") from error
