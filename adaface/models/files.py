"""Whether the models of the registry are there and sound: `adaface models`."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from adaface.model_path import PREFIX, model_path
from adaface.models.registry import Artefact, ModelFile
from adaface.surgery.weight_files import PICKLES, SAFETENSORS

State = Literal[
    "present", "missing", "empty", "git-lfs pointer", "wrong size", "damaged", "wrong sha256", "unsafe pickle"
]
# Hashes of what was downloaded, {path below the models folder: {"repo", "revision", "sha256"}}
RECORD = "downloads.json"
_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class FileState:
    """What was found of one file. `said`: details for people, "" where there is nothing to say."""

    file: ModelFile
    path: Path
    state: State
    said: str = ""


@dataclass(frozen=True)
class ArtefactState:
    """What was found of one artefact."""

    artefact: Artefact
    folder: Path
    files: tuple[FileState, ...]

    @property
    def state(self) -> str:
        """present, missing, incomplete, or the first thing that is wrong with a file of it."""
        states = [file.state for file in self.files]
        broken = [state for state in states if state not in ("present", "missing")]
        if broken:
            return broken[0]
        if set(states) == {"present", "missing"}:
            return "incomplete"
        return states[0]

    @property
    def bytes(self) -> int:
        return sum(file.path.stat().st_size for file in self.files if file.path.is_file())


def look(artefact: Artefact, root: Path, *, thorough: bool) -> ArtefactState:
    """Look at the files of an artefact below `root`.

    Args:
        thorough: compute sha256 and open pickles, too; minutes for gigabytes. Without it names, sizes and the headers
            of safetensors files are looked at.
    """
    folder = place_of(artefact, root)
    record = read_record(root)
    files = []
    for file in artefact.files:
        path = folder / file.path
        if file.or_path and not path.exists() and (folder / file.or_path).exists():
            path = folder / file.or_path
        recorded = record.get(record_key(path, root), {})
        state, said = _state(path, file if path == folder / file.path else ModelFile(file.or_path), recorded, thorough)
        files.append(FileState(file, path, state, said))
    return ArtefactState(artefact, folder, tuple(files))


def place_of(artefact: Artefact, root: Path) -> Path:
    """The folder that holds the files of an artefact."""
    return model_path(artefact.folder, verify=False) if artefact.folder.startswith(PREFIX) else root / artefact.folder


def remedy(found: ArtefactState) -> str:
    """What to do about an artefact that is not as it should be."""
    artefact = found.artefact
    if not artefact.sources:
        return artefact.by_hand
    text = f"adaface models --download {artefact.name}"
    if found.state == "unsafe pickle":
        text = "do not load it with other programs; remove it, then " + text
    return f"{text}; or by hand: {by_hand(artefact, found.folder)}"


def by_hand(artefact: Artefact, folder: Path) -> str:
    """How to get the files without this command."""
    if artefact.by_hand:
        return f"{artefact.by_hand}; the folder is {folder}"
    steps = []
    for source in artefact.sources:
        names = ", ".join(file.remote or file.path for file in source.files)
        steps.append(f"put {names} of {source.url} into {folder}")
    return "; ".join(steps)


def read_record(root: Path) -> dict[str, dict[str, str]]:
    """What was downloaded into `root`, and its hashes."""
    file = root / RECORD
    try:
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError as error:
        raise ValueError(f"{file} cannot be read ({error}); remove it, hashes are then not compared") from error


def record_key(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _state(path: Path, file: ModelFile, recorded: Mapping[str, str], thorough: bool) -> tuple[State, str]:
    if not path.is_file():
        return "missing", ""
    size = path.stat().st_size
    if size == 0:
        return "empty", "0 bytes"
    with path.open("rb") as opened:
        if opened.read(len(_LFS_POINTER)) == _LFS_POINTER:
            return "git-lfs pointer", "the file was cloned without git-lfs"
    if file.bytes is not None and size != file.bytes:
        return "wrong size", f"{size:,} bytes, expected {file.bytes:,}"
    if path.suffix == SAFETENSORS and (problem := _cut_short(path, size)):
        return "damaged", problem
    if not thorough:
        return "present", ""
    expected = file.sha256 or recorded.get("sha256")
    found = sha256(path)
    if expected is not None and found != expected:
        whose = "of the registry" if file.sha256 else f"of its download from {recorded.get('repo')}"
        return "wrong sha256", f"{found}, not {expected} {whose}"
    if path.suffix in PICKLES and (problem := _unsafe(path)):
        return "unsafe pickle", problem
    return "present", "" if expected else f"sha256 {found}, nothing to compare it with"


def _cut_short(path: Path, size: int) -> str:
    with path.open("rb") as file:
        head = int.from_bytes(file.read(8), "little")
        if not 2 <= head <= min(size - 8, 100_000_000):
            return "no header of safetensors; perhaps an error page was saved"
        try:
            tensors = json.loads(file.read(head))
            end = max((entry["data_offsets"][1] for key, entry in tensors.items() if key != "__metadata__"), default=0)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            return "no header of safetensors; perhaps an error page was saved"
    return "" if size == 8 + head + end else f"{size:,} bytes, its header says {8 + head + end:,}"


def _unsafe(path: Path) -> str:
    """Why torch refuses to read a pickled file as weights alone; "" where it does not refuse. Nothing in it is run."""
    try:
        try:
            torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # files of torch before 1.6 cannot be mapped
            torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        return str(error).splitlines()[0].rstrip(".")
    except (RuntimeError, EOFError) as error:
        return f"cannot be read: {str(error).splitlines()[0]}"
    return ""


def lines(found: list[ArtefactState]) -> Iterator[str]:
    """A table for people, with what to do under each artefact that is not sound."""
    width = max(len(one.artefact.name) for one in found)
    states = max(len(one.state) for one in found)
    for one in found:
        artefact = one.artefact
        size = f"{one.bytes / 1e6:,.1f} MB" if one.bytes else "-"
        where = artefact.folder if artefact.folder.startswith(PREFIX) else str(one.folder)
        yield f"{one.state:<{states}}  {artefact.name:<{width}}  {size:>12}  {where}"
        yield f"{'':<{states}}  {artefact.purpose}; licence: {artefact.licence}"
        for file in one.files:
            if file.state != "present" and one.state != "missing":
                yield f"{'':<{states}}  {file.state}: {file.file.path}" + (f" ({file.said})" if file.said else "")
            elif file.said:
                yield f"{'':<{states}}  {file.file.path}: {file.said}"
        if one.state != "present":
            yield f"{'':<{states}}  -> {remedy(one)}"
