"""What a run is made of besides its configuration: files that the configuration names, and that may become others.

Stage 2's anchor is the encoder that the run began with, read again at every start, and prompts are drawn from the file of
compositions. A run that goes on with others would be neither of the two runs, so checkpoints know them by their content.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from adaface.distill.compositions import OWN
from adaface.encoder.files import WEIGHTS
from adaface.model_path import model_path
from adaface.models.files import sha256


def origins_of(init: str | None, compositions: str | None) -> dict[str, str]:
    """sha256 of "init", an encoder's weights, and "compositions", a file; without "init" where a run begins with a new
    encoder, or one that is no folder of this machine.

    Args:
        init: encoder folder; None: a new encoder.
        compositions: file of the grammar; None: the package's own.
    """
    files = {"compositions": OWN if compositions is None else model_path(compositions)}
    if init is not None:
        files["init"] = model_path(init) / WEIGHTS
    return {name: sha256(file) for name, file in sorted(files.items()) if file.is_file()}


_WHAT = {"init": "the encoder that it starts from (init)", "compositions": "its file of compositions"}


def refuse_others(before: Mapping[str, str], now: Mapping[str, str], folder: Path) -> None:
    """Raises ValueError where a checkpoint's origins are not those of a run that wants to go on from it.

    What only one of them knows is not compared: older checkpoints know nothing.

    Args:
        before, now: of `origins_of`.
        folder: of the checkpoint.
    """
    if other := [_WHAT.get(name, name) for name in before if name in now and before[name] != now[name]]:
        raise ValueError(
            f"{folder}: since the run began, {' and '.join(other)} became another one under the same path, by sha256; put "
            "back what the run began with, or start a new run (name: ...)"
        )
