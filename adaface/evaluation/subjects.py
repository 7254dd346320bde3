"""Whose pictures are drawn: folders of reference photos, with what is known about the person."""

from __future__ import annotations

import difflib
import json
import pickle
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from adaface.evaluation.config import SubjectsConfig
    from adaface.perception.faces import FaceAnalyser, FaceResult

METAINFO = "metainfo.json"  # {"person_type": "young woman", ...}, as the original's preparation writes it
MEANS = ("mean_emb.npy", "mean_emb.safetensors", "mean_emb.pt")
ANYBODY = "person"
_MOST_BYTES = 1 << 20  # of a metainfo.json, and of a file with one embedding


@dataclass(frozen=True)
class Subject:
    """One person, or animal, with reference photos.

    Attributes:
        name: of the folder.
        photos: by name; masks are never among them.
        given: indices of the photos that the methods are shown; the others are held back.
        person_type: e.g. "young woman".
        class_word: what prompts say instead of the subject, usually the person type.
        mean_embedding: file with the ID embedding that methods get instead of those of the photos.
        type_from: who says the person type: "info", "metainfo.json", "face pack" or "nobody".
    """

    name: str
    photos: tuple[Path, ...]
    given: tuple[int, ...]
    person_type: str
    class_word: str
    mean_embedding: Path | None = None
    type_from: str = "info"

    @property
    def held_back(self) -> tuple[int, ...]:
        """Indices of the photos that the methods are not shown."""
        return tuple(index for index in range(len(self.photos)) if index not in self.given)


def find_subjects(config: SubjectsConfig) -> list[Subject]:
    """As `search_subjects`. Raises ValueError with all problems."""
    subjects, problems = search_subjects(config)
    if problems:
        raise ValueError("\n".join(problems))
    return subjects


def search_subjects(config: SubjectsConfig) -> tuple[list[Subject], list[str]]:
    """The subjects of a configuration's `subjects:` section, by name, without opening a photo, and what is wrong.

    The person type is that of `info`, else of metainfo.json in the folder, else "person" until `look_at_faces`.

    Returns:
        the subjects with which nothing is wrong, and a sentence for each problem: no such folder, names that are not in
        it, folders without photos, a metainfo.json that cannot be read, no mean embedding where one is asked for.
    """
    root = Path(config.folder).expanduser()
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        return [], [f"subjects.folder {root} {what}; give a folder with one sub-folder of photos per subject"]
    there = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    wanted = there if config.names is None else sorted(config.names)
    problems = []
    if not there:
        problems.append(f"subjects.folder {root} has no sub-folders; give each subject a folder of photos in it")
    for option, names in (("names", wanted), ("info", sorted(config.info or {}))):
        for name in names:
            if there and name not in there:
                near = difflib.get_close_matches(name, there, n=1)
                problems.append(
                    f"subjects.{option}: there is no folder {name!r} in {root}"
                    + (f"; did you mean {near[0]!r}?" if near else "")
                )
    subjects = []
    for name in wanted:
        if name in there:
            try:
                subjects.append(_subject(root / name, config))
            except (ValueError, OSError) as error:
                problems.append(f"subject {name}: {error}")
    return subjects, problems


def read_references(subject: Subject, side: int | None = None) -> list[np.ndarray]:
    """The photos of a subject in order, RGB uint8 (H, W, 3), turned as their EXIF orientation says.

    Args:
        side: photos whose shorter side is longer than this are scaled down to it, antialiased.

    Raises ValueError naming every photo that cannot be read.
    """
    from adaface.subjects.faces_of import read_photo

    photos, problems = [], []
    for file in subject.photos:
        try:
            photo = read_photo(file)
        except ValueError as error:
            problems.append(f"subject {subject.name}: {file}: {error}")
            continue
        photos.append(photo if side is None else _smaller(photo, side))
    if problems:
        raise ValueError("\n".join(problems))
    return photos


def check_faces(subjects: Sequence[Subject], faces: FaceAnalyser, side: int | None = None) -> list[Subject]:
    """As `look_at_faces`. Raises ValueError with all problems."""
    known, problems = look_at_faces(subjects, faces, side)
    if problems:
        raise ValueError("\n".join(problems))
    return known


def look_at_faces(
    subjects: Sequence[Subject], faces: FaceAnalyser, side: int | None = None
) -> tuple[list[Subject], list[str]]:
    """The same subjects, with the person types that were not known yet, after a look at the faces in their photos.

    It needs the face pack alone and comes before anything is drawn. A person type that nobody said is the majority of
    gender and the median age of the faces.

    Args:
        side: `subjects.reference_side`: somewhere a face must be seen at this size, too.

    Returns:
        the subjects whose photos can be read, and a sentence for every photo that cannot, and for every subject without
        a face in the photos that the methods are shown.
    """
    problems: list[str] = []
    known = []
    for subject in subjects:
        try:
            photos = read_references(subject)
        except ValueError as error:
            problems += str(error).splitlines()
            continue
        unknown = subject.type_from == "nobody"
        results = _look(photos, range(len(photos)) if unknown else subject.given, faces, stop=not unknown)
        if not any(results[index].faces for index in subject.given if index in results):
            problems.append(_no_face(subject))
        elif side is not None and not _shows_a_face([_smaller(photo, side) for photo in photos], faces):
            problems.append(
                f"subject {subject.name}: no face is found any more when the photos are scaled down to {side} px; raise "
                "subjects.reference_side"
            )
        known.append(_with_type(subject, list(results.values())) if unknown else subject)
    return known, problems


def read_mean_embedding(file: Path) -> np.ndarray:
    """The ID embedding of one person, float32 (D,) of unit norm, from .npy, .safetensors or the original's .pt.

    Nothing in the file is executed. Raises ValueError for what holds no such embedding.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    size = file.stat().st_size
    if size > _MOST_BYTES:
        raise ValueError(f"{file}: {size:,} bytes are too many for one embedding")
    values: Any = None
    try:
        if file.suffix == ".npy":
            values = np.load(file, allow_pickle=False)
        elif file.suffix == ".safetensors":
            values = next(iter(load_file(file).values()), None)
        else:
            values = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, ValueError, EOFError, RuntimeError, pickle.UnpicklingError, SafetensorError) as error:
        raise ValueError(f"{file}: cannot be read: {error}") from error
    rows = np.asarray(values.detach().float() if isinstance(values, torch.Tensor) else values)
    if rows.dtype.kind != "f" or rows.ndim == 0 or not rows.size or rows.size != rows.shape[-1]:
        raise ValueError(f"{file}: holds no embedding of one person, (D,) or (1, D)")
    row = rows.reshape(-1).astype(np.float32)
    norm = float(np.linalg.norm(row))
    if not np.isfinite(norm) or norm < 1e-6:
        raise ValueError(f"{file}: the embedding is zero or not finite")
    return row / norm


def _subject(folder: Path, config: SubjectsConfig) -> Subject:
    from adaface.subjects.faces_of import list_photos

    try:
        folder.name.encode()
    except UnicodeEncodeError:
        raise ValueError("the name of the folder is not valid UTF-8; rename it") from None
    listed = [Path(name) for name, _ in list_photos(folder)]
    photos = tuple(file for file in listed if not file.name.startswith("."))[: config.max_photos]
    if not photos:
        raise ValueError(f"{folder} holds nothing but hidden files; put photos into it")
    given = tuple(range(len(photos) if config.given is None else min(config.given, len(photos))))
    mean = None
    if config.mean_embedding:
        mean = next((folder / name for name in MEANS if (folder / name).is_file()), None)
        if mean is None:
            raise ValueError(
                f"no mean embedding in {folder} ({', '.join(MEANS)}); set subjects.mean_embedding to false"
            )
    info = (config.info or {}).get(folder.name)
    if info is not None:
        return Subject(folder.name, photos, given, info.person_type, info.class_word or info.person_type, mean)
    word = _of_metainfo(folder / METAINFO)
    source = METAINFO if word else "nobody"
    return Subject(folder.name, photos, given, word or ANYBODY, word or ANYBODY, mean, source)


def _of_metainfo(file: Path) -> str | None:
    """The person type in a metainfo.json; None without one."""
    if not file.is_file():
        return None
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise ValueError("too large")
        values = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    word = values.get("person_type") if isinstance(values, dict) else None
    if word is not None and (not isinstance(word, str) or not word.strip()):
        raise ValueError(f"{file}: `person_type` must be a word such as woman, not {word!r}")
    return " ".join(word.split()) if word else None


def _look(
    photos: Sequence[np.ndarray], indices: Iterable[int], faces: FaceAnalyser, *, stop: bool
) -> dict[int, FaceResult]:
    """What the detector sees in some of the photos, by index; with `stop` no further than the first face."""
    results = {}
    for index in indices:
        results[index] = faces.detect(photos[index])
        if results[index].faces and stop:
            break
    return results


def _shows_a_face(photos: Sequence[np.ndarray], faces: FaceAnalyser) -> bool:
    return any(result.faces for result in _look(photos, range(len(photos)), faces, stop=True).values())


def _smaller(photo: np.ndarray, side: int) -> np.ndarray:
    """Scaled down to a shorter side of `side` px, antialiased; a smaller photo as it is."""
    from PIL import Image

    height, width = photo.shape[:2]
    shorter = min(height, width)
    if shorter <= side:
        return photo
    size = (round(width * side / shorter), round(height * side / shorter))
    return np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BICUBIC))


def _no_face(subject: Subject) -> str:
    number = len(subject.given)
    shown = " that the methods are shown" if subject.held_back else ""
    where = f"any of the {number} photos{shown}" if number > 1 else f"the photo{shown}"
    return (
        f"subject {subject.name}: no face was found in {where}; add photos that show the face, or leave the subject out "
        "with subjects.names"
    )


def _with_type(subject: Subject, results: Sequence[FaceResult]) -> Subject:
    from adaface.perception.person_type import person_type

    def column(name: str) -> np.ndarray:
        values = [getattr(result, name) for result in results]
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)

    word, _, _ = person_type(column("gender"), column("age"))
    if word == ANYBODY:
        return subject
    return replace(subject, person_type=word, class_word=word, type_from="face pack")
