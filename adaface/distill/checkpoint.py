"""A checkpoint: the encoder as a folder that can be used as it is, and beside it what going on exactly needs.

    encoder/                 config.json, adaface.safetensors, ...
    trainer/state.json       numbers, where each tensor of the optimizer belongs, and the sizes of all other files
    trainer/optimizer.safetensors
    trainer/data.json        where the stream of samples is

Nothing of it is a pickle, and one that is not whole, cut off in any file, is not taken for one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from adaface.distill.origins import refuse_others
from adaface.distill.trainer import Trainer
from adaface.encoder.model import AdaFaceEncoder

ENCODER, TRAINER = "encoder", "trainer"
FORMAT = "adaface-checkpoint/1"
_TENSOR = "tensor:"  # a string in state.json that begins so names a tensor of optimizer.safetensors


def save_checkpoint(
    folder: Path, trainer: Trainer, *, data: Mapping[str, Any], run: str, origins: Mapping[str, str] | None = None
) -> None:
    """Write a checkpoint into an empty or new folder.

    Its encoder names its teacher, or has a copy where the run began with an encoder that had one: a path from folder to
    folder would not outlive the checkpoint's way into the storage.

    Args:
        data: state of the stream of samples.
        run: hash of what the run is: a checkpoint of another one is refused later.
        origins: of `adaface.distill.origins`, which are compared when the run goes on.

    Raises:
        OSError: the disk is full, for example.
    """
    encoder = trainer.task.encoder
    place = folder / TRAINER
    place.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    state = _plain(trainer.state_dict(), tensors, "")
    try:
        encoder.save_pretrained(folder / ENCODER, teacher="copy" if encoder.teacher_folder else "reference")
        save_file(tensors, place / "optimizer.safetensors")
    except SafetensorError as error:  # what it makes of errors of the disk
        raise OSError(f"{folder}: {error}") from error
    (place / "data.json").write_text(json.dumps(dict(data), indent=1) + "\n", encoding="utf-8")
    content = {
        "format": FORMAT,
        "run": run,
        "origins": dict(origins or {}),
        "step": trainer.number,
        "state": state,
        "files": _sizes(folder),
    }
    (place / "state.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_step(folder: Path) -> int:
    """Optimizer steps done. Raises ValueError where the folder is not a whole checkpoint."""
    return int(_state(folder)["step"])


def load_checkpoint(
    folder: Path, trainer: Trainer, *, run: str, origins: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Put the trainer where the checkpoint was taken, and return the state of its stream of samples.

    Raises:
        ValueError: not a whole checkpoint, one of another run, or one of other origins; the trainer stays as it is.
    """
    content = _state(folder)
    if content["run"] != run:
        raise ValueError(
            f"{folder} is a checkpoint of another configuration (run {content['run']}, this is {run}); give the run "
            "another name, or go on with the configuration that it was started with"
        )
    refuse_others(content.get("origins", {}), origins or {}, folder)
    tensors = load_file(folder / TRAINER / "optimizer.safetensors")
    saved = AdaFaceEncoder.from_pretrained(folder / ENCODER, teacher=trainer.task.encoder.teacher)
    trainer.task.encoder.load_state_dict(saved.state_dict())
    trainer.load_state_dict(_restored(content["state"], tensors))
    data: dict[str, Any] = json.loads((folder / TRAINER / "data.json").read_text(encoding="utf-8"))
    return data


def _state(folder: Path) -> dict[str, Any]:
    file = folder / TRAINER / "state.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} is not a whole checkpoint: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{file} is not the state of a checkpoint that this version reads ({FORMAT})")
    there = _sizes(folder)
    if wrong := [name for name, size in content.get("files", {}).items() if there.get(name) != size]:
        raise ValueError(f"{folder} is not a whole checkpoint: {', '.join(wrong)} missing or cut off")
    return content


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of each file but the one that keeps them."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: path.stat().st_size for name, path in files.items() if name != f"{TRAINER}/state.json"}


def _plain(value: Any, tensors: dict[str, Tensor], name: str) -> Any:
    """For JSON: dicts as lists of pairs, since optimizers count parameters by integers; tensors by name."""
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().contiguous()
        return f"{_TENSOR}{name}"
    if isinstance(value, Mapping):
        return {"pairs": [[key, _plain(inside, tensors, f"{name}/{key}")] for key, inside in value.items()]}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_plain(inside, tensors, f"{name}/{place}") for place, inside in enumerate(value)]}
    if value is None or isinstance(value, bool | int | float | str):
        return value  # JSON of Python keeps every float exactly, and writes inf and nan
    raise ValueError(f"{name}: a {type(value).__name__} cannot be kept in a checkpoint")


def _restored(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, str) and value.startswith(_TENSOR):
        return tensors[value.removeprefix(_TENSOR)]
    if isinstance(value, dict):
        ((kind, inside),) = value.items()
        if kind == "pairs":
            return {key: _restored(each, tensors) for key, each in inside}
        return (list if kind == "list" else tuple)(_restored(each, tensors) for each in inside)
    return value
