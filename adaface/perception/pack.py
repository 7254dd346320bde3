"""Which .onnx file of an insightface model pack does what.

A pack is any folder of .onnx files (antelopev2, buffalo_l, one made by hand). What a file is for is read from the
shapes of its graph, by the rules of insightface's own router (`insightface/model_zoo/model_zoo.py`), without starting a
session.
"""

from __future__ import annotations

import functools
import hashlib
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from adaface.model_path import model_path

if TYPE_CHECKING:
    import onnx

log = logging.getLogger(__name__)

ROLES = ("detection", "recognition", "genderage", "landmark_2d_106", "landmark_3d_68")

# Arc2Face's recogniser. It is dropped into antelopev2 in place of glintr100.onnx, which people often leave beside it;
# the two give unrelated embeddings, and the teacher understands those of this one only.
ARC2FACE_RECOGNISER = "arcface.onnx"

Dims = tuple[int | None, ...]


@dataclass(frozen=True)
class Pack:
    """A model pack on disk: the folder that really holds the .onnx files, and the file chosen for each role."""

    folder: Path
    files: dict[str, Path] = field(hash=False)

    def sha256(self, roles: tuple[str, ...] = ROLES) -> dict[str, str]:
        """The sha256 of the file of each of `roles` that the pack has."""
        return {role: sha256(self.files[role]) for role in roles if role in self.files}


def resolve_pack(folder: str | Path, recognition_file: str | None = None) -> Pack:
    """Find the models in `folder`, or in the one folder inside it that holds .onnx files.

    `recognition_file` is the file name of the recogniser to use where there are several. Without it `arcface.onnx`
    (Arc2Face's) wins. Of several models for another role the first by name is used, as insightface does.

    Raises FileNotFoundError for a missing folder or one without models, ValueError for files that cannot be read and
    for a pack without a detector, without a recogniser or with an undecided choice of recognisers (all problems at
    once).
    """
    root = _folder_with_models(model_path(folder))
    candidates: dict[str, list[Path]] = {}
    problems: list[str] = []
    for path in sorted(root.glob("*.onnx")):
        try:
            role = _role(_load_graph(path))
        except ValueError as error:
            problems.append(str(error))
            continue
        if role is None:
            log.info("%s: not a model that is used here, ignored", path)
        else:
            candidates.setdefault(role, []).append(path)

    found = (
        ", ".join(f"{path.name} ({role})" for role, paths in candidates.items() for path in paths) or "nothing usable"
    )
    files: dict[str, Path] = {}
    for role, paths in candidates.items():
        if role == "recognition":
            continue
        files[role] = paths[0]
        if len(paths) > 1:
            log.warning("%s: several %s models, using %s", root, role, paths[0].name)
    if "detection" not in files:
        problems.append(
            f"no face detector among the .onnx files of {root} (found: {found}); add one, e.g. an SCRFD model"
        )
    try:
        files["recognition"] = _choose_recogniser(root, candidates.get("recognition", []), recognition_file, found)
    except ValueError as error:
        problems.append(str(error))
    if problems:
        raise ValueError(f"model pack {root} cannot be used:\n" + "\n".join(f"- {problem}" for problem in problems))
    return Pack(root, {role: files[role] for role in ROLES if role in files})


def sha256(path: str | Path) -> str:
    """Hex sha256 of a file; remembered for as long as the file's size and modification time stay the same."""
    path = Path(path)
    status = path.stat()
    return _sha256(str(path.resolve()), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _sha256(path: str, size: int, mtime_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _folder_with_models(folder: Path) -> Path:
    advice = "set `perception.pack` to the folder of an insightface model pack (e.g. an unpacked antelopev2)"
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise FileNotFoundError(f"model pack folder {folder} {what}; {advice}")
    if any(folder.glob("*.onnx")):
        return folder
    # antelopev2.zip unpacks to antelopev2/antelopev2
    nested = sorted(path for path in folder.iterdir() if path.is_dir() and any(path.glob("*.onnx")))
    if len(nested) == 1:
        return nested[0]
    if nested:
        raise ValueError(f"{folder} holds several model packs ({', '.join(path.name for path in nested)}); {advice}")
    there = sorted(path.name for path in folder.iterdir())
    shown = ", ".join(there[:8]) + (", ..." if len(there) > 8 else "") if there else "nothing"
    raise FileNotFoundError(f"no .onnx file in {folder} nor in a folder inside it (found: {shown}); {advice}")


def _choose_recogniser(root: Path, paths: list[Path], wanted: str | None, found: str) -> Path:
    names = [path.name for path in paths]
    if wanted is not None:
        if wanted not in names:
            raise ValueError(
                f"`perception.recognition_file` is {wanted!r}, which is not one of the face recognition models of "
                f"{root}: {', '.join(names) or 'there is none'}"
            )
        return paths[names.index(wanted)]
    if not paths:
        raise ValueError(
            f"no face recognition model among the .onnx files of {root} (found: {found}); add an ArcFace model"
        )
    if len(paths) == 1:
        return paths[0]
    if ARC2FACE_RECOGNISER in names:
        log.warning("%s: several recognition models (%s), using %s", root, ", ".join(names), ARC2FACE_RECOGNISER)
        return paths[names.index(ARC2FACE_RECOGNISER)]
    raise ValueError(
        f"{root} has several face recognition models, and their embeddings do not mix: {', '.join(names)}; "
        "set `perception.recognition_file` to one of them"
    )


def _load_graph(path: Path) -> onnx.GraphProto:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]

    broken = f"{path} ({path.stat().st_size} bytes) is not a readable ONNX file; fetch it again (or `git lfs pull`)"
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except DecodeError as error:
        raise ValueError(broken) from error
    # protobuf reads some damaged files, and empty ones, as an empty message
    if not graph.input or not graph.output:
        raise ValueError(broken)
    return graph


def _dims(value: onnx.ValueInfoProto) -> Dims:
    """The static sizes of a tensor's axes, None where an axis is dynamic."""
    return tuple(dim.dim_value if dim.dim_value > 0 else None for dim in value.type.tensor_type.shape.dim)


def _role(graph: onnx.GraphProto) -> str | None:
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [_dims(value) for value in graph.input if value.name not in weights]  # old exports list weights as inputs
    outputs = [_dims(value) for value in graph.output]
    if len(inputs) != 1 or len(inputs[0]) != 4:
        return None
    if len(outputs) >= 5:
        return "detection"
    if len(outputs) != 1:
        return None
    height, width = inputs[0][2:]
    output = outputs[0]
    if height is None or height != width or len(output) not in (0, 2):  # 0: the export does not say
        return None
    last = output[1] if output else None
    if height == 192:
        return "landmark_3d_68" if last == 3309 else "landmark_2d_106"
    if height == 96:
        return "genderage" if last == 3 else None
    if height >= 112 and height % 16 == 0:
        return "recognition"
    return None


def embedding_length(path: str | Path) -> int | None:
    """The length of the embeddings of a recogniser as its file declares it; None where it does not."""
    return (_dims(_load_graph(Path(path)).output[0]) or (None,))[-1]
