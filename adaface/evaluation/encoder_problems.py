"""What keeps an encoder from drawing with a base model, seen before either is loaded: a run may get to it hours later."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from adaface.encoder.files import read_config, read_weights, teacher_place

if TYPE_CHECKING:
    from adaface.encoder.config import EncoderConfig


def encoder_problems(folder: Path, *, id_dim: int | None, width: int | None) -> Iterator[str]:
    """One sentence for each problem. Sizes and names of tensors are looked at, their numbers are not read.

    Args:
        folder: of the encoder.
        id_dim: length of the ID embeddings that it will get; None: not known.
        width: D of the base's text encoder; None: not known.
    """
    try:
        config = read_config(folder)
    except (ValueError, FileNotFoundError) as error:
        yield str(error)
        return
    try:
        read_weights(folder, config)
    except (ValueError, FileNotFoundError) as error:
        yield str(error)
    if id_dim is not None and config.id_dim != id_dim:
        yield (
            f"the encoder reads ID embeddings of {config.id_dim} values, and the first recogniser gives {id_dim}; set "
            f"measures.faces to the pack it was trained with{f' ({config.face_pack})' if config.face_pack else ''}"
        )
    if width is not None and config.width != width:
        yield (
            f"the encoder makes vectors of {config.width} values, and the text encoder of generation.base reads {width}; "
            "name a base of its width"
        )
    yield from _teacher_problems(folder, config)


def _teacher_problems(folder: Path, config: EncoderConfig) -> Iterator[str]:
    """Of the hub, the teacher's configuration is downloaded, a kilobyte: it is the proof that there is such a model."""
    from transformers import CLIPTextConfig

    try:
        where = teacher_place(config, folder)
    except (ValueError, FileNotFoundError) as error:
        yield str(error)
        return
    inside = Path(where, config.teacher_subfolder)
    if Path(where).is_dir():
        weights = [file for kind in ("*.safetensors", "*.bin") for file in inside.glob(kind)]
        if not weights or not (inside / "config.json").is_file():
            yield f"{folder}: its teacher in {inside} has no {'config.json' if weights else 'weights'}"
            return
    try:
        teacher = CLIPTextConfig.from_pretrained(where, subfolder=config.teacher_subfolder)
    except (OSError, ValueError) as error:
        yield f"{folder}: its teacher cannot be read from {inside}: {' '.join(str(error).split())}"
        return
    if teacher.hidden_size != config.width:
        yield f"{folder}: its teacher in {inside} is {teacher.hidden_size} wide, the encoder {config.width}"
