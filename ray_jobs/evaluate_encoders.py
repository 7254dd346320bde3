"""The encoders of an evaluation that is drawn while a training goes on.

A training writes one checkpoint after the other and deletes older ones. The newest is therefore copied into the output
before anything is drawn: all workers draw with the same one, and it is there as long as they do.
"""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.fs as fs

from adaface.encoder.files import CONFIG, WEIGHTS, read_config
from adaface.evaluation.methods.encoder import encoder_files, encoder_place, newest_encoder
from data_pipeline.storage import Storage, inside
from ray_jobs.evaluate_config import EncoderPath, EvaluateConfig, with_encoders
from ray_jobs.evaluate_digests import digest
from ray_jobs.fetched import in_object_store

FOLDER = "encoders"  # in the output


def with_encoders_kept(config: EvaluateConfig, out: Storage) -> EvaluateConfig:
    """The same configuration with a copy of the newest encoder for every folder, or folders, of checkpoints.

    A path that is an encoder itself stays as it is; in an object store every one is. Copies that no method draws with
    any more are deleted.

    Args:
        out: `config.output`.

    Raises FileNotFoundError where there is no encoder.
    """
    found = with_encoders(config, lambda path: _kept(path, config.output, out))
    used = [method.path for method in found.methods if method.kind == "encoder"]
    filesystem, root = out.filesystem()
    for entry in filesystem.get_file_info(fs.FileSelector(f"{root}/{FOLDER}", allow_not_found=True)):
        if inside(config.output, f"{FOLDER}/{entry.base_name}") not in used:
            filesystem.delete_dir(entry.path)
    return found


def _kept(path: EncoderPath, output: str, out: Storage) -> str:
    if isinstance(path, str) and in_object_store(path):
        return path
    gone = None
    while (newest := newest_encoder(folder := encoder_place(path))) != gone:
        if newest == folder:
            return path if isinstance(path, str) else str(folder)
        try:
            files = _files(newest)
            if files is None:
                return str(newest)
            name = f"{FOLDER}/{_name(newest, folder)}"
            _copy(newest, files, out, name)
            return inside(output, name)
        except FileNotFoundError:  # the training has deleted it meanwhile, and has written a newer one
            gone = newest
    raise FileNotFoundError(f"{newest} is not whole: files are missing")


def _files(encoder: Path) -> list[Path] | None:
    """Of the encoder, its configuration last; None where its teacher lies beside it, which a copy would not find."""
    teacher = Path(read_config(encoder).teacher or "")
    files = [encoder / WEIGHTS]
    if teacher.parts and not teacher.is_absolute() and (encoder / teacher).is_dir():
        if ".." in teacher.parts:
            return None
        files += sorted(file for file in (encoder / teacher).rglob("*") if file.is_file())
    return [*files, encoder / CONFIG]


def _name(encoder: Path, folder: Path) -> str:
    """Which one it is, for people, and what is in it."""
    place = re.sub(r"[^A-Za-z0-9_.-]", "_", "-".join(encoder.relative_to(folder).parts))
    return f"{place}-{digest(sorted(encoder_files(encoder).items()))[:12]}"


def _copy(encoder: Path, files: list[Path], out: Storage, name: str) -> None:
    if not out.exists(f"{name}/{CONFIG}"):
        for file in files:
            out.write_bytes(f"{name}/{file.relative_to(encoder).as_posix()}", file.read_bytes())
