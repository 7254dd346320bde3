"""The tiny networks of `tests.tiny_distill`, loaded once for the whole folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adaface.distill.initial_encoder import initial_encoder
from adaface.distill.models import FrozenModels, load_frozen
from adaface.encoder.model import AdaFaceEncoder
from tests.tiny_distill import make_models
from tests.tiny_world import make_pack


@dataclass(frozen=True)
class Tiny:
    """Folders of models and what they load to: not to be changed.

    Attributes:
        folder: of `make_models`.
        pack: whose recogniser made the faces.
        models: loaded, with the VAE.
    """

    folder: Path
    pack: Path
    models: FrozenModels

    def encoder(self, **changes: Any) -> AdaFaceEncoder:
        """A new one; keywords are those of `initial_encoder`."""
        usual: dict[str, Any] = {
            "init": None,
            "multiplier": 1,
            "teacher_text": str(self.folder / "teacher/text_encoder"),
            "text_model": str(self.folder / "text"),
            "tokenizer": str(self.folder / "base/tokenizer"),
            "face_pack": str(self.pack),
            "seed": 3,
        }
        return initial_encoder(**{**usual, **changes})


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    folder = make_models(tmp_path_factory.mktemp("models"))
    pack = make_pack(tmp_path_factory.mktemp("pack"))
    return Tiny(folder, pack, load_frozen(str(folder / "base"), str(folder / "teacher/unet")))
