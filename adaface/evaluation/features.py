"""Pictures -> features: every network of the evaluation, kept loaded, looks at each picture once.

Metrics are functions of these features alone, so that scores can be computed anew, and metrics added, without a network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adaface.evaluation.clip_features import ClipFeatures
from adaface.evaluation.entry_points import open_entry_point
from adaface.evaluation.gallery import Gallery
from adaface.evaluation.image_encoders import ImageEncoder, OwnEncoder, VisionTransformer
from adaface.evaluation.model_folders import locate_model, weights_sha256
from adaface.evaluation.parity_reader import ParityReader
from adaface.evaluation.picture_input import check_picture
from adaface.evaluation.recognisers import FaceFeatures
from adaface.evaluation.torch_models import Running

if TYPE_CHECKING:
    from adaface.evaluation.config import FunctionConfig, ImageModelConfig, MeasuresConfig

__all__ = ["FeatureReader", "Gallery"]

CLIP = "clip"
SceneClassifier = Callable[[list[np.ndarray]], Mapping[str, Sequence[str]]]


class FeatureReader:
    """All models of a `measures:` section.

    Attributes:
        models: {name: {"id", "file", "sha256"}} of "detector", each recogniser, "clip", each image encoder and
            "scene_classifier"; "id" is what the configuration says. An entry point's object says its file in an
            attribute `file`, or is known by its name alone.

    Raises FileNotFoundError and ValueError for models that cannot be used.
    """

    def __init__(self, measures: MeasuresConfig):
        running = Running.on(measures.device, measures.batch, measures.threads)
        self._batch = measures.batch
        self.models: dict[str, dict[str, str]] = {}
        self._faces = FaceFeatures(measures)
        ids = {judge.name: judge.file for judge in measures.judges}
        for name, file in self._faces.files.items():
            self._note(name, ids.get(name, measures.faces.pack), file)
        self._clip = None if measures.clip is None else ClipFeatures(locate_model(measures.clip), running)
        if measures.clip is not None and self._clip is not None:
            self._note_folder(CLIP, measures.clip, self._clip.folder)
        self._encoders = {name: self._encoder(name, told, running) for name, told in measures.image_encoders.items()}
        self._scenes: SceneClassifier | None = None
        if measures.scene_classifier is not None:
            told = measures.scene_classifier
            self._scenes = open_entry_point(told.entry_point, told.settings)
            self._note_own("scene_classifier", told, self._scenes)
        self._parity: ParityReader | None = None
        if measures.mode == "parity":
            self._parity = ParityReader(self._faces.config, self._clip, self._encoders)

    def read(self, images: Sequence[np.ndarray], *, photos: bool = False) -> Gallery:
        """Features of RGB uint8 (H, W, 3) pictures of any sizes, in their order. In mode `parity` also those of
        `ParityReader`, below names that begin with `parity_`; it takes photos of references for what they are, and other
        pictures by way of the original's JPEG files.

        Raises ValueError for anything else, and for entry points that do not keep to their interface.
        """
        for image in images:
            check_picture(image)
        found = self._faces.read(images)
        seen = self._seen(images)
        whole: dict[str, np.ndarray] = {}
        if self._clip is not None:
            whole[CLIP] = self._clip.images(images)
        whole |= {name: encoder.images(images) for name, encoder in self._encoders.items()}
        embeddings = dict(found.embeddings)
        if self._parity is not None:
            original = self._parity.read(images, photos=photos)
            embeddings |= original.embeddings
            whole |= original.images
        return Gallery(found.faces, found.boxes, embeddings, whole, seen, found.scores)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """CLIP's features of texts: unit float32 (N, D). Equal texts are read once. Raises ValueError without a CLIP."""
        if self._clip is None:
            raise ValueError("no CLIP is configured, so texts have no features; set `measures.clip`")
        different = list(dict.fromkeys(texts))
        row_of = {text: row for row, text in enumerate(different)}
        return self._clip.texts(different)[[row_of[text] for text in texts]]

    def _seen(self, images: Sequence[np.ndarray]) -> dict[str, list[str]]:
        if self._scenes is None:
            return {}
        seen: dict[str, list[str]] = {}
        for start in range(0, max(1, len(images)), self._batch):
            part = list(images[start : start + self._batch])
            for factor, words in self._scenes(part).items():
                if len(words) != len(part):
                    raise ValueError(
                        f"the scene classifier gave {len(words)} words of {factor} for {len(part)} pictures"
                    )
                seen.setdefault(factor, []).extend(str(word) for word in words)
        return seen

    def _encoder(self, name: str, told: ImageModelConfig | FunctionConfig, running: Running) -> ImageEncoder:
        model = getattr(told, "model", None)
        if model is None:
            own = OwnEncoder(told.entry_point, told.settings, running.batch)  # type: ignore[union-attr]
            self._note_own(name, told, own.own)  # type: ignore[arg-type]
            return own
        encoder = VisionTransformer(locate_model(model), running)
        self._note_folder(name, model, encoder.folder)
        return encoder

    def _note(self, name: str, said: str, file: Path) -> None:
        from adaface.perception.pack import sha256

        self.models[name] = {"id": said, "file": file.name, "sha256": sha256(file)}

    def _note_folder(self, name: str, said: str, folder: Path) -> None:
        self.models[name] = {"id": said, "sha256": weights_sha256(folder)}

    def _note_own(self, name: str, told: FunctionConfig, made: Any) -> None:
        file = getattr(made, "file", None)
        if isinstance(file, Path) and file.is_file():
            self._note(name, told.entry_point, file)
        else:
            self.models[name] = {"id": told.entry_point}
