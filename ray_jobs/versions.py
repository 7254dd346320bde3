"""The versions of everything that can change a number."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import adaface

# By the names that they are installed under; some have two, of which one is there.
_PACKAGES = (
    *("torch", "numpy", "pillow", "transformers", "tokenizers", "diffusers", "insightface", "ray", "pyarrow"),
    *("onnxruntime", "onnxruntime-gpu", "opencv-python", "opencv-python-headless"),
)


def versions() -> dict[str, str]:
    """{package: version} of what is installed, without importing it, with Python's and ours; and the `commit` where this
    code is a checkout of git, with "+changes" where files differ from it."""
    found = {"python": sys.version.split()[0], "adaface": adaface.__version__}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    commit = _commit(Path(adaface.__file__).resolve().parents[1])
    return found | ({"commit": commit} if commit else {})


def _commit(folder: Path) -> str | None:
    """None where `folder` is no root of a checkout: it may lie in one of somebody else's."""
    if not (folder / ".git").exists():
        return None
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):  # no git here, or one that does not trust the folder's owner
        return None
    return commit + ("+changes" if changes else "")


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=20, check=True, encoding="utf-8"
    )
    return done.stdout.strip()
