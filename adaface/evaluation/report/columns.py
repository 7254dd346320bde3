"""What the columns of the scores are called, what they mean in plain words, and which model measured them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from adaface.evaluation.report.data import Column, Direction, Group

GROUPS: dict[Group, str] = {
    "identity": "Is it the person?",
    "text": "Is it what the prompt says?",
    "picture": "What else changed?",
    "guard": "Is it more than a copy?",
    "parity": "As the original measured",
    "other": "Other measures",
}
DIRECTIONS: dict[Direction, str] = {
    "higher": "higher is better",
    "lower": "lower is better",
    "none": "neither end is better",
}


class Measured(Protocol):
    """As much of a metric as the report needs."""

    @property
    def name(self) -> str: ...
    @property
    def about(self) -> str: ...
    @property
    def columns(self) -> Mapping[str, Direction]: ...


@dataclass(frozen=True)
class Recogniser:
    """A face recogniser: its name in columns, the model behind it, what the encoders have to do with it."""

    name: str
    model: str
    part: str

    @property
    def words(self) -> str:
        return f"{self.model} ({self.part})" if self.model else self.part


# nobody is independent by default
_IN_TRAINING = {
    True: "used in training",
    False: "not used in training",
    None: "it is not said whether it was used in training",
}


def describe_columns(metrics: Iterable[Measured], measures: Any) -> dict[str, Column]:
    """Every column that `metrics` and the shares derived from them may have, in the order of the report.

    Args:
        metrics: the metrics of the run; of a column that is not known here, the page says their `about`.
        measures: the `MeasuresConfig`: names and models.
    """
    directions: dict[str, tuple[Direction, str]] = {}
    for metric in metrics:
        for name, direction in metric.columns.items():
            directions[name] = direction, metric.about
    faces = [Recogniser(measures.first, short_model(str(measures.faces.pack)), "encoders read its embeddings")]
    for judge in measures.judges:
        faces.append(Recogniser(judge.name, short_model(judge.file), _IN_TRAINING[judge.used_in_training]))
    encoders = {name: _source(one) for name, one in measures.image_encoders.items()}
    known = _known(faces, short_model(measures.clip or ""), encoders, _source(measures.scene_classifier))
    found = {}
    for name, column in known.items():
        if name in directions:
            found[name] = _turned(column, directions[name][0])
        elif name.startswith("identity_") and f"gap_{name.removeprefix('identity_')}" in directions:
            found[name] = column
    for name, (direction, about) in directions.items():
        if name not in found:
            found[name] = _factor(name, direction, known) or Column(name.replace("_", " "), about, direction)
    order = list(GROUPS)
    return dict(sorted(found.items(), key=lambda item: order.index(item[1].group)))


def short_model(path: str) -> str:
    """The name of a model without the folders of the machine: `antelopev2`, `facebook/dino-vits16`."""
    if path.startswith("package://"):
        return path.removeprefix("package://")
    parts = [part for part in path.rstrip("/").split("/") if part]
    hub = len(parts) == 2 and path[0] not in "./~" and "." not in parts[0]
    return "/".join(parts) if hub else "/".join(parts[-1:])


def _source(one: Any) -> str:
    if one is None:
        return ""
    return short_model(one.model) if hasattr(one, "model") else str(one.entry_point)


def _turned(column: Column, direction: Direction) -> Column:
    return column if column.direction == direction else replace(column, direction=direction)


def _known(faces: Sequence[Recogniser], clip: str, encoders: Mapping[str, str], classifier: str) -> dict[str, Column]:
    several = len(faces) > 1
    columns: dict[str, Column] = {}
    by = {face.name: f", {face.name}" if several else "" for face in faces}
    for face in faces:
        columns[f"identity_{face.name}"] = Column(
            f"Identity kept{by[face.name]}",
            "How much of the person that the teacher carries over is kept: where the identity gap lies between that of "
            "the class word, 0%, and that of the teacher, 100%. A plain quotient of cosines would flatter noise.",
            "higher",
            "identity",
            face.words,
            share=True,
            main=True,
        )
    for face in faces:
        columns[f"face_{face.name}"] = Column(
            f"Face similarity{by[face.name]}",
            "Mean cosine between the face in a picture and each reference photo of the person, over the pictures in "
            "which a face was found. Real photos of one person reach the ceiling, not 1.",
            "higher",
            "identity",
            face.words,
            short="face",
            main=True,
        )
    for face in faces:
        columns[f"gap_{face.name}"] = Column(
            f"Identity gap{by[face.name]}",
            "Cosine to the photos of the person minus the mean cosine to those of the other people of this run; a picture "
            "without a face counts as 0. Strangers have a gap of 0, whatever the recogniser thinks of faces in general.",
            "higher",
            "identity",
            face.words,
            short="gap",
        )
    for face in faces:
        columns[f"face_{face.name}_or_0"] = Column(
            f"Face similarity, no face as 0{by[face.name]}",
            "As face similarity, with 0 for a picture in which no face was found, so that failures cost something.",
            "higher",
            "identity",
            face.words,
            main=True,
        )
    columns["detected"] = Column(
        "Face found",
        "Share of pictures in which the detector found a face.",
        "higher",
        "identity",
        f"face detector of {faces[0].model}" if faces[0].model else "face detector",
        share=True,
        main=True,
    )
    columns["face_score"] = Column(
        "Certainty of the detector",
        "How sure the detector is of the largest face, 0 to 1, over the pictures in which it found one. What it takes for "
        "a face and is none, as on an animal, scores low.",
        "none",
        "identity",
        columns["detected"].model,
    )
    columns["clip_text"] = Column(
        "Text alignment",
        "Cosine between a picture and its prompt, with the class word in the place of the person.",
        "higher",
        "text",
        f"CLIP {clip}",
        short="text",
        main=True,
    )
    columns["composition"] = Column(
        "Composition",
        "Share of what a prompt asks for (a place, a hat, a style) that a classifier sees in the picture.",
        "higher",
        "text",
        f"scene classifier {classifier}",
        short="seen",
        share=True,
        main=True,
    )
    columns["undisturbed"] = Column(
        "Base undisturbed",
        "Cosine to the picture that the base model draws of the class word at the same prompt and seed: how little a "
        "method changes of what is not the person. The person alone lowers it too.",
        "higher",
        "picture",
        f"CLIP {clip}",
        main=True,
    )
    columns["diversity"] = Column(
        "Diversity",
        "1 minus the cosine between pictures of the same person and prompt at different seeds; 0 is always the same "
        "picture. Neither end is better: noise is diverse, too.",
        "none",
        "picture",
        f"CLIP {clip}",
        main=True,
    )
    for name, model in {"clip": clip, **encoders}.items():
        column = "clip_image" if name == "clip" else name
        columns[column] = Column(
            f"Likeness to the photos, {'CLIP' if name == 'clip' else name}",
            "Mean cosine of whole pictures to the reference photos. It also rises where clothes, pose or background of "
            "the photos are copied, and falls where the prompt asks for another scene.",
            "higher",
            "picture",
            f"CLIP {model}" if name == "clip" else f"{name} {model}",
            main=True,
        )
    for face in faces:
        columns[f"copy_{face.name}"] = Column(
            f"Copying{by[face.name]}",
            "How much nearer the face is to a photo that the method was given than to photos of the same person that were "
            "held back: 0 as a new photo of the person would be, 1 as a copy; 0 and less is no copying. Pictures that do not "
            "show the person have no such value, nor has the class word, which saw no photo.",
            "lower",
            "guard",
            face.words,
            main=True,
            enough=0.0,
        )
    columns |= _parity(faces[0], clip, encoders)
    for face in faces[1:]:
        for name, own in columns.items():
            first = name.replace(face.name, faces[0].name)
            if name != first and first in columns and columns[first].about == own.about:
                columns[name] = replace(own, about=f"The same as with {faces[0].name}, by another recogniser.")
    return columns


def _parity(first: Recogniser, clip: str, encoders: Mapping[str, str]) -> dict[str, Column]:
    """The original's own numbers."""
    told = {
        "face": (
            "Face similarity",
            "pictures without a face are left out, a prompt without any face counts as 0, and subjects with 0 or less are "
            "left out of the mean over subjects",
            first.model,
        ),
        "clip_text": ("Text alignment", "the plain cosine with the class word's prompt", f"CLIP {clip}"),
        "clip_image": ("Likeness to the photos, CLIP", "the plain cosine of all pairs", f"CLIP {clip}"),
    }
    told |= {
        name: (f"Likeness to the photos, {name}", "the plain cosine of all pairs", model)
        for name, model in encoders.items()
    }
    no_face = Column(
        "No face, original",
        "The original's share of exceptions: pictures in which its detector, run its way, found no face.",
        "lower",
        "parity",
        first.model,
        share=True,
    )
    columns = {
        f"parity_{name}": Column(
            f"{label}, original",
            f"The original's number, with its resizing and its choice of faces: {what}. For comparison with its figures.",
            "higher",
            "parity",
            model,
        )
        for name, (label, what, model) in told.items()
    }
    return columns | {"parity_no_face": no_face}


def _factor(name: str, direction: Direction, known: Mapping[str, Column]) -> Column | None:
    """composition_place and its like."""
    factor = name.removeprefix("composition_")
    if factor == name:
        return None
    return Column(
        f"Composition: {factor}",
        f"Share of the pictures whose prompt names the {factor} that show it.",
        direction,
        "text",
        known["composition"].model,
        share=True,
    )
