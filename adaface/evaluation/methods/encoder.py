"""AdaFace encoders: sixteen vectors stand in the prompt for the person, the base model stays as it is."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from adaface.encoder.files import CONFIG, TEACHER, WEIGHTS, locate, read_config
from adaface.evaluation.methods.base import BasePipe, Person, Request, known_ids
from adaface.evaluation.methods.model_files import hashes_below, pinned
from adaface.evaluation.methods.sampling import draw
from adaface.model_path import model_path
from adaface.subjects.subject import load_adaface

if TYPE_CHECKING:
    from adaface.evaluation.config import EncoderMethodConfig, GenerationConfig
    from adaface.evaluation.subjects import Subject

TOKEN = "z"  # for the person in prompts; the class word does not stand there
_DEPTH = 3  # folders below a folder of checkpoints that are looked at
_NUMBER = re.compile(r"\d+")


class EncoderMethod:
    """A `Method`.

    Raises ValueError for an encoder that does not fit the base model, FileNotFoundError where there is none.
    """

    def __init__(self, config: EncoderMethodConfig, base: BasePipe, generation: GenerationConfig):
        self.name, self.config, self.base, self.generation = config.name, config, base, generation
        self.folder = newest_encoder(config.path)
        self._adaface = load_adaface(base.pipe, self.folder)
        self._negative = base.negative(generation)

    def prepare(self, subject: Subject, photos: list[np.ndarray], ids: np.ndarray) -> Person:
        """The encoder runs here. Raises ValueError without an ID embedding, or for one that the encoder cannot read."""
        try:
            person = self._adaface.subject(
                ids=known_ids(subject.name, ids),
                token=TOKEN,
                id_scale=self.config.id_scale,
                noise=self.config.noise,
                generator=torch.Generator().manual_seed(_noise_seed(self.generation.seed, subject.name)),
            )
        except ValueError as error:
            raise ValueError(f"method {self.name}: {error}") from error
        return Person({TOKEN: person.vectors})

    def draw(self, prepared: Person, requests: Sequence[Request]) -> list[np.ndarray]:
        """RGB uint8 (H, W, 3) each. Raises ValueError for a prompt that the sixteen vectors make too long."""
        states = [self.base.states(self.generation, prepared, request.prompt.of(TOKEN)) for request in requests]
        seeds = [request.seed for request in requests]
        return draw(self.base.pipe, self.generation, states, self._negative, seeds)

    def provenance(self) -> dict[str, Any]:
        """`encoder` has the checkpoint's own files: they tell whether there is a new one."""
        return {
            "kind": "encoder",
            "path": self.config.path,
            "folder": self.folder.name,
            "encoder": encoder_files(self.folder),
            "face_pack": self._adaface.face_pack,
            "id_scale": self.config.id_scale,
            "noise": self.config.noise,
            "base": self.base.base,
            "files": self.base.files(),
        }


def newest_encoder(path: str | Path | Sequence[str]) -> Path:
    """The encoder at `path`: that folder itself, or the newest in a folder of checkpoints, or in several.

    The newest has the highest numbers in its name, so that step-1000 comes after step-500; names without a number come
    before those with one, and among equals the weights that were written last count. One that is not whole does not
    count, for a training may be copying it there: its files are missing or cut off, or a name begins with a dot.

    Names in different folders say nothing of each other: of several folders, the one counts whose newest encoder was
    written last.

    Args:
        path: a folder, `package://PACKAGE/PATH`, or a repository of the hub, which is downloaded; or several folders, of
            which one is enough.

    Raises FileNotFoundError when there is no encoder, ValueError for one that is not readable.
    """
    folder = encoder_place(path)
    if _is_encoder(folder):
        return folder
    found = [
        (_numbers(inside.relative_to(folder)), written, inside)
        for inside in _below(folder, _DEPTH)
        if (written := _written(inside)) is not None
    ]
    newest = next((inside for _, _, inside in sorted(found, reverse=True) if _is_whole(inside)), None)
    if newest is None:
        raise FileNotFoundError(
            f"{folder}: there is no encoder ({CONFIG} and {WEIGHTS}) in this folder or up to {_DEPTH} folders below it"
            + (f"; {len(found)} are not whole" if found else "")
        )
    read_config(newest)
    return newest


def encoder_place(path: str | Path | Sequence[str]) -> Path:
    """The local folder that `path` stands for; of several, the one whose newest encoder was written last.

    Raises as `newest_encoder`.
    """
    if isinstance(path, str | Path):
        folder = model_path(path)
        return folder if folder.is_dir() else locate(path)
    found: list[tuple[int, int]] = []
    problems = []
    for place, folder in enumerate(map(model_path, path)):
        if not folder.is_dir():
            problems.append(f"there is no folder {folder}")
            continue
        try:
            found.append((_written(newest_encoder(folder)) or 0, place))
        except FileNotFoundError as error:
            problems.append(str(error))
    if not found:
        raise FileNotFoundError("; ".join(problems))
    return model_path(path[max(found)[1]])


def encoder_files(folder: Path) -> dict[str, str]:
    """{file: sha256} of an encoder and of the teacher's text model that it reads; of a teacher of the hub, which may be
    downloaded later or in part, {"teacher": name and commit}.

    Raises FileNotFoundError and ValueError where `folder` is no encoder.
    """
    from adaface.perception.pack import sha256

    config = read_config(folder)
    files = {name: sha256(folder / name) for name in (CONFIG, WEIGHTS)}
    if not config.teacher:
        return files
    beside = folder / config.teacher
    teacher = beside if beside.is_dir() else model_path(config.teacher)
    if not teacher.is_dir():
        return files | {"teacher": pinned(config.teacher)}
    below = hashes_below(teacher / config.teacher_subfolder)
    return files | {f"teacher/{name}": digest for name, digest in below.items()}


def _is_encoder(folder: Path) -> bool:
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()


def _written(folder: Path) -> int | None:
    """When the weights of an encoder were, in nanoseconds; None for any other folder, and one that was deleted."""
    try:
        return (folder / WEIGHTS).stat().st_mtime_ns if (folder / CONFIG).is_file() else None
    except FileNotFoundError:
        return None


def _is_whole(encoder: Path) -> bool:
    """Whether the configuration is JSON and no weights are cut off, those of a teacher in the folder included."""
    try:
        config = json.loads((encoder / CONFIG).read_text(encoding="utf-8"))
        files = [encoder / WEIGHTS]
        if isinstance(config, dict) and config.get("teacher") == TEACHER:
            json.loads((encoder / TEACHER / CONFIG).read_text(encoding="utf-8"))
            files.append(encoder / TEACHER / "model.safetensors")
        for file in files:
            with safe_open(file, framework="pt"):  # compares the header with the file's length
                pass
    except (OSError, ValueError, SafetensorError):
        return False
    return True


def _below(folder: Path, depth: int) -> Iterator[Path]:
    try:
        folders = sorted(folder.iterdir())
    except FileNotFoundError:  # deleted by a training that goes on
        return
    for inside in folders:
        if inside.is_dir() and not inside.name.startswith("."):
            yield inside
            if depth > 1:
                yield from _below(inside, depth - 1)


def _numbers(name: Path) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(map(int, _NUMBER.findall(part))) for part in name.parts)


def _noise_seed(seed: int, subject: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{subject}/noise".encode()).digest()[:8], "big") % 2**63
