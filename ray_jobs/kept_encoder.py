"""The encoder of a checkpoint, put where others look for encoders."""

from __future__ import annotations

from pathlib import Path

from adaface.encoder.files import CONFIG
from data_pipeline.storage import Storage


def keep_encoder(encoder: Path, out: Storage, name: str) -> None:
    """Copy an encoder's folder to `name`: its own configuration last, which makes the folder one."""
    files = sorted(path for path in encoder.rglob("*") if path.is_file())
    for file in sorted(files, key=lambda path: path == encoder / CONFIG):
        out.write_bytes(f"{name}/{file.relative_to(encoder).as_posix()}", file.read_bytes())
