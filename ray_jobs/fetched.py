"""Folders of models in an object store, which the libraries read from disks: each machine copies them once."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import pyarrow.fs as fs

from adaface.model_path import PREFIX
from data_pipeline.storage import Storage, is_uri


def in_object_store(path: str) -> bool:
    return is_uri(path) and not path.startswith(PREFIX)


def fetched(path: str) -> str:
    """A folder on this machine with what is at `path`; a path that is no URI of an object store stays as it is.

    A copy is used again as long as names, sizes and times of the files are those of the store.

    Raises FileNotFoundError where there are no files.
    """
    if not in_object_store(path):
        return path
    store, folder = Storage(path).filesystem()
    found = store.get_file_info(fs.FileSelector(folder, recursive=True, allow_not_found=True))
    files = sorted((info.path, info.size, info.mtime_ns) for info in found if info.type == fs.FileType.File)
    if not files:
        raise FileNotFoundError(f"{path}: there are no files")
    copies = Path(tempfile.gettempdir()) / f"adaface-models-{os.getuid()}"
    copies.mkdir(mode=0o700, exist_ok=True)
    copy = copies / hashlib.sha256(repr((path, files)).encode()).hexdigest()[:16]
    if not copy.is_dir():
        fresh = Path(tempfile.mkdtemp(dir=copies))
        try:
            fs.copy_files(folder, str(fresh), source_filesystem=store, destination_filesystem=fs.LocalFileSystem())
            fresh.rename(copy)
        except OSError:
            shutil.rmtree(fresh, ignore_errors=True)
            if not copy.is_dir():  # nobody else on this machine was faster
                raise
    return str(copy)
