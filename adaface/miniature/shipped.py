"""Where the shipped weights are, and whether they are the ones of the manifest."""

from __future__ import annotations

from pathlib import Path

from adaface.shipped_files import MANIFEST, manifest_problems

# A folder of data, not of code: pack/ (insightface), judge/, parser/, clip/, sd/, teacher/, factors/, manifest.json
WEIGHTS = Path(__file__).parent / "weights"


def check(weights: Path = WEIGHTS) -> list[str]:
    """What is wrong with a weights folder, one sentence each; empty when every file of its manifest is as recorded."""
    manifest = weights / MANIFEST
    if not manifest.exists():
        return [f"{manifest} does not exist; install the package anew, or train the models (docs/miniature.md)"]
    return manifest_problems(weights)
