from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ray_jobs.versions import _commit, versions


def git(folder: Path, *words: str) -> str:
    who = {
        f"GIT_{role}_{what}": "nobody@example.com" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    done = subprocess.run(
        ["git", "-C", str(folder), *words], env=os.environ | who, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_everything_that_can_change_a_number_is_there(project: Path) -> None:
    found = versions()
    assert {"python", "adaface", "torch", "numpy", "pillow", "transformers", "tokenizers", "diffusers", "insightface",
            "ray"} <= set(found)  # fmt: skip
    assert any(name.startswith("onnxruntime") for name in found) and any(name.startswith("opencv") for name in found)
    if (project / ".git").exists():
        assert found["commit"].removesuffix("+changes") == git(project, "rev-parse", "HEAD")


def test_the_commit_of_a_checkout(tmp_path: Path) -> None:
    if not any(Path(folder, "git").exists() for folder in os.get_exec_path()):
        pytest.skip("needs git")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "a.py").write_text("1\n")
    assert _commit(tmp_path) is None
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    assert _commit(tmp_path) == git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "package" / "a.py").write_text("2\n")
    assert _commit(tmp_path) == f"{git(tmp_path, 'rev-parse', 'HEAD')}+changes"
    assert _commit(tmp_path / "package") is None  # somebody else's checkout, in which the package lies
