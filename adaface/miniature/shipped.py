"""Where the shipped weights are, and whether they are the ones of the manifest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

# A folder of data, not of code: pack/ (insightface), judge/, parser/, clip/, sd/, teacher/, factors/, manifest.json
WEIGHTS = Path(__file__).parent / "weights"
MANIFEST = "manifest.json"


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def check(weights: Path = WEIGHTS) -> list[str]:
    """What is wrong with a weights folder, one sentence each; empty when every file of its manifest is as recorded."""
    manifest = weights / MANIFEST
    if not manifest.exists():
        return [f"{manifest} does not exist; install the package anew, or train the models (docs/miniature.md)"]
    problems = []
    for name, entry in json.loads(manifest.read_text())["files"].items():
        file = weights / name
        if not file.exists():
            problems.append(f"{file} is missing; install the package anew")
        elif sha256(file) != entry["sha256"]:
            problems.append(f"{file} is not the shipped file (sha256 differs); install the package anew")
    return problems
