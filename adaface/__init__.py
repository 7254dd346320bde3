"""AdaFace: a face becomes sixteen vectors that stand in a Stable Diffusion prompt like words.

from adaface import load_adaface
subject = load_adaface(pipe, "path/or/hub-id").subject(images=["anna/"])
pipe(**subject.prompt("z riding a horse, oil painting")).images
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adaface.encoder.model import AdaFaceEncoder
    from adaface.subjects.subject import AdaFace, Subject, Subjects, load_adaface

__version__ = "0.1.0"
__all__ = ["AdaFace", "AdaFaceEncoder", "Subject", "Subjects", "load_adaface"]

_SUBJECT = "adaface.subjects.subject"
_HOMES = {
    "AdaFace": _SUBJECT,
    "AdaFaceEncoder": "adaface.encoder.model",
    "Subject": _SUBJECT,
    "Subjects": _SUBJECT,
    "load_adaface": _SUBJECT,
}


def __getattr__(name: str) -> Any:
    """Import what is asked for only then: commands that need no network should not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'adaface' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
