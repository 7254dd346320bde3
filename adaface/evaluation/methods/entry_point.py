"""Methods of one's own: `package.module:factory` makes an object with `prepare` and `draw`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adaface.evaluation.entry_points import find_entry_point, open_entry_point, with_offered
from adaface.evaluation.methods.base import Request

if TYPE_CHECKING:
    from adaface.evaluation.config import EntryPointConfig, GenerationConfig
    from adaface.evaluation.subjects import Subject

# What is called, with which arguments; `provenance()` may be there too.
INTERFACE = {"prepare": ("subject", "photos", "ids"), "draw": ("prepared", "requests")}
GENERATION = "generation"  # a parameter of this name gets the protocol's settings


class EntryPointMethod:
    """A `Method` around an object that somebody else wrote: what it returns is checked, and its failures name it.

    The factory is called with the settings of the configuration and, where it has a parameter `generation`, with the
    protocol's `GenerationConfig`: base model, steps, guidance, size, device.

    Raises ValueError for a module or factory that is not there, settings that it does not take, and an object without
    the interface.
    """

    def __init__(self, config: EntryPointConfig, generation: GenerationConfig):
        self.name, self.config = config.name, config
        factory = find_entry_point(config.entry_point)
        settings = with_offered(factory, config.settings, {GENERATION: generation})
        self._method = open_entry_point(config.entry_point, settings)
        if problems := list(_interface_problems(self._method)):
            raise ValueError(
                f"method {self.name}: what {config.entry_point} gives, a {type(self._method).__name__}, is no method: "
                + "; ".join(problems)
            )

    def prepare(self, subject: Subject, photos: list[np.ndarray], ids: np.ndarray) -> Any:
        return self._method.prepare(subject, photos, ids)

    def draw(self, prepared: Any, requests: Sequence[Request]) -> list[np.ndarray]:
        """Raises ValueError where it does not draw one RGB uint8 picture per request."""
        pictures = list(self._method.draw(prepared, requests))
        problems = [
            f"picture {number} is {_shown(picture)}"
            for number, picture in enumerate(pictures, start=1)
            if not _is_picture(picture)
        ]
        if len(pictures) != len(requests):
            problems.insert(0, f"{len(pictures)} pictures came for {len(requests)} requests")
        if problems:
            raise ValueError(
                f"method {self.name} ({self.config.entry_point}): {'; '.join(problems)}; draw() must return one RGB "
                "uint8 array (H, W, 3) per request"
            )
        return pictures

    def provenance(self) -> dict[str, Any]:
        """With the sha256 of the module's file, and what the object says of itself under "method"."""
        from adaface.perception.pack import sha256

        module = self.config.entry_point.partition(":")[0]
        file = getattr(sys.modules[module], "__file__", None)
        own = getattr(self._method, "provenance", dict)
        return {
            "kind": "entry_point",
            "entry_point": self.config.entry_point,
            "settings": dict(self.config.settings),
            "files": {Path(file).name: sha256(file)} if file else {},
            "method": dict(own()),
        }


def _interface_problems(method: Any) -> list[str]:
    problems = []
    for name, arguments in INTERFACE.items():
        call = f"{name}({', '.join(arguments)})"
        function = getattr(method, name, None)
        if not callable(function):
            problems.append(f"it has no {call}")
            continue
        try:
            inspect.signature(function).bind(*arguments)
        except TypeError as error:
            problems.append(f"its {name} cannot be called as {call}: {error}")
    if not callable(getattr(method, "provenance", dict)):
        problems.append("its provenance is not a function")
    return problems


def _is_picture(picture: Any) -> bool:
    return (
        isinstance(picture, np.ndarray)
        and picture.dtype == np.uint8
        and picture.ndim == 3
        and picture.shape[2] == 3
        and picture.size > 0
    )


def _shown(picture: Any) -> str:
    return f"{picture.dtype} {picture.shape}" if isinstance(picture, np.ndarray) else f"a {type(picture).__name__}"
