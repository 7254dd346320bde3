"""Whether files that a package ships are the ones that were put into it, by the manifest beside them."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path

MANIFEST = "manifest.json"  # {"files": {path: {"sha256", "bytes"}}}, paths relative to its folder
_REMEDY = "install the package anew"


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def manifest_problems(folder: Path, below: str = "") -> list[str]:
    """What is missing or other than the manifest in `folder` says, one sentence each.

    `below` keeps to one file or one folder of it. Raises FileNotFoundError without a manifest.
    """
    problems = []
    for name, entry in json.loads((folder / MANIFEST).read_text())["files"].items():
        if below and name != below and not name.startswith(f"{below}/"):
            continue
        file = folder / name
        if not file.exists():
            problems.append(f"{file} is missing; {_REMEDY}")
        elif sha256(file) != entry["sha256"]:
            problems.append(f"{file} is not the shipped file (sha256 differs); {_REMEDY}")
    return problems


@lru_cache(maxsize=64)
def require_shipped(path: Path, package: Path) -> None:
    """Raises ValueError with all `manifest_problems` at or below `path`, where a folder between it and the package's
    own has a manifest. Looks once per process.
    """
    folder = path
    while folder != package:
        folder = folder.parent
        if (folder / MANIFEST).is_file():
            if problems := manifest_problems(folder, path.relative_to(folder).as_posix()):
                raise ValueError("\n".join(problems))
            return
