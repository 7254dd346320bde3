"""The actors of an evaluation: one draws parts, one measures them, and the reference photos.

Between them lie files only: whatever ends in between, the next run takes up what is there.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image, PngImagePlugin

from adaface.evaluation.features import FeatureReader
from adaface.evaluation.methods.base import Request
from adaface.evaluation.methods.open import open_method
from adaface.evaluation.plan import Part, Picture
from adaface.evaluation.prompts import Prompt
from adaface.evaluation.references import reference_features
from adaface.evaluation.subjects import Subject, read_references
from data_pipeline.storage import Storage
from ray_jobs import evaluate_drawn
from ray_jobs.evaluate_config import EvaluateConfig, with_encoders_here
from ray_jobs.evaluate_digests import Digests, digest, part_file, reference_file
from ray_jobs.evaluate_provenance import measures_file, method_file, note
from ray_jobs.runtime import quiet_model_loading

_DIGEST = "adaface-digest"  # text chunk of the PNG files
_PNG_BYTES = 1 << 28  # more is no picture of ours


@dataclass(frozen=True)
class Job:
    """What all actors know; small enough to be sent to each."""

    config: EvaluateConfig
    subjects: dict[str, Subject]
    prompts: dict[str, Prompt]
    parts: tuple[Part, ...]
    digests: Digests
    ids: dict[str, np.ndarray]  # by subject, (N, id_dim) float32 of the photos that methods are shown; zeros: no face

    @property
    def class_words(self) -> dict[str, str]:
        return {name: subject.class_word for name, subject in self.subjects.items()}

    def part_file(self, part: Part) -> str:
        return part_file(part, self.digests.of_part(part, self.prompts, self.class_words))

    def reference_file(self, subject: Subject) -> str:
        return reference_file(subject, self.digests.references[subject.name])

    def batch_name(self, part: Part) -> str:
        """Of the pictures of a part, whatever measures them."""
        return f"{part.name}-{digest([self.picture_digest(picture) for picture in part.pictures])[:12]}"

    def picture_digest(self, picture: Picture) -> str:
        return self.digests.of_picture(
            picture, self.prompts[picture.prompt_id], self.subjects[picture.subject].class_word
        )


class Drawer:
    """Draws the pictures of a part that are not there yet, and keeps the models for the next one.

    Where all but some were lost after they were there, the whole batch is drawn again, and those that are there stay.

    A row is {"part": number}, or {"subject": name}, whose photos are there and only pass by.
    """

    def __init__(self, job: Job):
        quiet_model_loading("transformers", "diffusers")
        self.job, self.out = job, Storage(job.config.output)
        self._methods: dict[str, Any] = {}
        self._prepared: tuple[tuple[str, str], Any] | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        if row["subject"] is not None:
            return {**row, "drawn": 0}
        part = self.job.parts[row["part"]]
        missing = [picture.file for picture in part.pictures if not self._is_there(picture)]
        drawn = 0
        if missing:
            batch = self.job.batch_name(part)
            pictures = evaluate_drawn.kept(self.out, batch)
            if pictures is None:
                drawn = len(missing)
                pictures = {
                    picture.file: self._png(picture, pixels)
                    for picture, pixels in zip(part.pictures, self._draw(part), strict=True)
                }
                evaluate_drawn.keep(self.out, batch, pictures)
            for file in missing:
                self.out.write_bytes(file, pictures[file])
            evaluate_drawn.forget(self.out, batch)
        return {**row, "drawn": drawn}

    def _draw(self, part: Part) -> list[np.ndarray]:
        method = self._method(part.method)
        subject = self.job.subjects[part.subject]
        if self._prepared is None or self._prepared[0] != (part.method, part.subject):
            photos = read_references(subject)
            given = [photos[index] for index in subject.given]
            prepared = method.prepare(subject, given, self.job.ids[part.subject])
            self._prepared = (part.method, part.subject), prepared
        requests = [
            Request(self.job.prompts[picture.prompt_id], subject.class_word, picture.seed) for picture in part.pictures
        ]
        return list(method.draw(self._prepared[1], requests))

    def _method(self, name: str) -> Any:
        if name not in self._methods:
            config = with_encoders_here(self.job.config)
            settings = next(method for method in config.methods if method.name == name)
            method = self._methods[name] = open_method(settings, config.generation)
            note(self.out, method_file(self.job.digests, name), config.generation.device, method.provenance)
        return self._methods[name]

    def _is_there(self, picture: Picture) -> bool:
        if not self.out.exists(picture.file):
            return False
        try:
            with Image.open(io.BytesIO(self.out.read_bytes(picture.file)), formats=["PNG"]) as image:
                return image.info.get(_DIGEST) == self.job.picture_digest(picture)
        except (OSError, SyntaxError, ValueError):  # not a picture of ours
            return False

    def _png(self, picture: Picture, pixels: np.ndarray) -> bytes:
        about = PngImagePlugin.PngInfo()
        prompt = self.job.prompts[picture.prompt_id]
        said = {
            "prompt": prompt.of(self.job.subjects[picture.subject].class_word),
            "seed": str(picture.seed),
            "method": picture.method,
            "subject": picture.subject,
            _DIGEST: self.job.picture_digest(picture),
        }
        for key, value in said.items():
            about.add_itxt(key, value)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG", pnginfo=about)
        return file.getvalue()


class Measurer:
    """Looks once at each picture of a part, or photo of a subject; writes one row of features for each.

    A part of which nothing was drawn now and whose features are there is not looked at again.
    """

    def __init__(self, job: Job):
        quiet_model_loading("transformers")
        self.job, self.out = job, Storage(job.config.output)
        measures = job.config.measures
        self.reader = FeatureReader(measures)
        note(self.out, measures_file(job.digests), measures.device, lambda: {"models": self.reader.models})
        self._texts: dict[str, np.ndarray] = {}

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        if row["subject"] is not None:
            subject = self.job.subjects[row["subject"]]
            side = self.job.config.subjects.reference_side
            photos = reference_features([subject], self.reader, side)[subject.name].gallery
            self.out.write_table(self.job.reference_file(subject), pa.Table.from_pylist(photos.to_rows()))
            return {"images": len(photos), "drawn": 0}
        part = self.job.parts[row["part"]]
        done = {"images": len(part.pictures), "drawn": row["drawn"]}
        if not row["drawn"] and self.out.exists(self.job.part_file(part)):
            return done
        gallery = self.reader.read([self._pixels(picture) for picture in part.pictures])
        rows: list[dict[str, Any]] = gallery.to_rows()
        word = self.job.class_words[part.subject]
        for picture, features in zip(part.pictures, rows, strict=True):
            features["file"] = picture.file
            if self.job.config.measures.clip:
                features["text"] = self._text(self.job.prompts[picture.prompt_id].of(word))
        self.out.write_table(self.job.part_file(part), pa.Table.from_pylist(rows))
        return done

    def _pixels(self, picture: Picture) -> np.ndarray:
        data = self.out.read_bytes(picture.file)
        if len(data) > _PNG_BYTES:
            raise ValueError(f"{self.out.locate(picture.file)} is no picture of this run: {len(data):,} bytes")
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            return np.asarray(image.convert("RGB"))

    def _text(self, prompt: str) -> np.ndarray:
        if prompt not in self._texts:
            self._texts[prompt] = self.reader.texts([prompt])[0]
        return self._texts[prompt]
