"""A run of an evaluation made up from numbers: no network, no files."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from adaface.evaluation.history import compare, history_rows
from adaface.evaluation.report import MethodInfo, PromptInfo, ReportData, SubjectInfo, describe_columns
from adaface.evaluation.summary import summarise

KINDS = {"class-word": "class_word", "teacher": "teacher"}
# (identity, text alignment) of the methods; others are between
LEVELS = {"class-word": (0.02, 0.30), "teacher": (0.60, 0.10), "adaface": (0.45, 0.27)}
MEASURES: Any = SimpleNamespace(
    first="pack",
    faces=SimpleNamespace(pack="/home/me/models/antelopev2"),
    judges=[SimpleNamespace(name="judge", file="/home/me/judge.onnx", used_in_training=False)],
    clip="openai/clip-vit-base-patch32",
    image_encoders={"dino": SimpleNamespace(model="facebook/dino-vits16")},
    scene_classifier=SimpleNamespace(entry_point="my.scenes:Classifier", settings={}),
)


@pytest.fixture(scope="session")
def make() -> Callable[..., ReportData]:
    """The function `make_run`, below."""
    return make_run


@pytest.fixture(scope="session")
def run() -> ReportData:
    """Three methods, 9 people, 8 prompts, 2 seeds, a history of 5 runs."""
    return make_run()


def make_run(
    *,
    methods: tuple[str, ...] = ("class-word", "teacher", "adaface"),
    subjects: int | tuple[str, ...] = 9,
    prompts: int | tuple[str, ...] = 8,
    seeds: int = 2,
    runs: int = 5,
    recognisers: tuple[str, ...] = ("pack", "judge"),
    without: tuple[str, ...] = (),
    faceless: float = 0.1,
    side: int = 24,
    noise: bool = False,
    **changes: Any,
) -> ReportData:
    """A run.

    Args:
        methods: names; "class-word" and "teacher" have these roles.
        subjects, prompts: how many, or their names and texts.
        seeds: pictures per subject and prompt.
        runs: of the history, this one the last.
        recognisers: whose columns there are.
        without: columns that no picture has a value for.
        faceless: share of pictures without a face, of methods other than the teacher.
        side: of the pictures, px.
        noise: pictures that no JPEG can make small.
        changes: fields of `ReportData`.
    """
    rng = np.random.default_rng(7)
    people = [f"person{i}" for i in range(subjects)] if isinstance(subjects, int) else list(subjects)
    texts = [f"a photo of a {{}} number {i}" for i in range(prompts)] if isinstance(prompts, int) else list(prompts)
    asked = [PromptInfo(f"prompt-{i}", ("place", "style", "clothing")[i % 3], text) for i, text in enumerate(texts)]
    keys = [(m, s, p, k) for m in methods for s in people for p in asked for k in range(seeds)]
    scores: dict[str, Any] = {
        "method": np.array([m for m, _, _, _ in keys]),
        "subject": np.array([s for _, s, _, _ in keys]),
        "prompt_id": np.array([p.id for _, _, p, _ in keys]),
        "category": np.array([p.category for _, _, p, _ in keys]),
        "k": np.array([k for _, _, _, k in keys], np.int64),
    }
    level = np.array([LEVELS.get(m, (0.3, 0.25)) for m, _, _, _ in keys]).reshape(-1, 2)
    by_person = dict(zip(people, rng.normal(0, 0.05, len(people)), strict=True))
    spread = np.array([by_person[s] for _, s, _, _ in keys])
    lost = (rng.random(len(keys)) < faceless) & (scores["method"] != "teacher")
    known = _metrics(recognisers)
    values: dict[str, np.ndarray] = {}
    for place, name in enumerate(recognisers):
        near = level[:, 0] * (1 - 0.1 * place) + spread + rng.normal(0, 0.05, len(keys))
        values[f"face_{name}"] = np.where(lost, np.nan, near)
        values[f"face_{name}_or_0"] = values[f"gap_{name}"] = np.where(lost, 0, near)
        values[f"copy_{name}"] = np.where(lost, np.nan, rng.normal(0.05, 0.1, len(keys)))
    values["detected"] = 1.0 - lost
    values["face_score"] = np.where(lost, np.nan, 0.8)
    values["clip_text"] = level[:, 1] + rng.normal(0, 0.02, len(keys))
    values["undisturbed"] = np.where(scores["method"] == "class-word", np.nan, 0.7 + rng.normal(0, 0.05, len(keys)))
    for name in ("clip_image", "dino", "diversity"):
        values[name] = rng.uniform(0.2, 0.6, len(keys))
    values["composition"] = values["composition_place"] = (rng.random(len(keys)) < 0.8).astype(float)
    directions = {column: direction for metric in known for column, direction in metric.columns.items()}
    scores |= {name: np.full(len(keys), np.nan) if name in without else values[name] for name in directions}

    roles = {
        role: name if name in methods else None for role, name in (("baseline", "class-word"), ("teacher", "teacher"))
    }
    limits = dict(zip(recognisers, (0.71, 0.66), strict=False))
    summary = summarise(scores, metrics=directions, bootstrap=200, ceiling=limits, **roles) if keys else None
    history: list[dict[str, Any]] = []
    for number in range(runs if summary else 0):
        assert summary
        history += history_rows(
            summary,
            run=f"run-{number}",
            finished=f"2026-11-{10 + number}T02:00:00+00:00",
            protocol_hash="old" if number == 0 and runs > 3 else "new",
            method_hashes=dict.fromkeys(methods, "h"),
        )
    last = f"run-{runs - 1}"
    judged = [m for m in methods if m not in KINDS]
    before = [row for row in history if row["run"] != last]
    load = _noise(side) if noise else _flat(side)
    fields: dict[str, Any] = {
        "title": "Night run",
        "finished": "2026-11-23T02:10:00+00:00",
        "summary": summary.to_dict() if summary else {"columns": directions, "methods": list(methods)},
        "columns": describe_columns(known, MEASURES),
        "methods": [
            MethodInfo(m, KINDS.get(m, "encoder"), {"path": f"out/{m}", "sha256": "ab" * 32}) for m in methods
        ],
        "subjects": [
            SubjectInfo(s, "young woman", [load(f"{s}/{i}") for i in range(5)], (0, 1), 7, limits) for s in people
        ],
        "prompts": asked,
        "scores": scores,
        "load": load,
        "history": history,
        "findings": compare(summary, before, protocol_hash="new", methods=judged, method_hashes={})
        if summary and runs
        else [],
        "provenance": {
            "run": {"config_hash": "c0ffee"},
            "versions": {"torch": "2.13"},
            "configuration": "a: 1\nb: 2\n",
        },
        "protocol": {"sampler": "DDIM, 50 steps"},
        "run": last if runs else "",
    }
    return ReportData(**(fields | changes))


def _metrics(recognisers: tuple[str, ...]) -> list[Any]:
    faces: dict[str, str] = {}
    for name in recognisers:
        faces |= {f"face_{name}": "higher", f"face_{name}_or_0": "higher"}
    gaps, copies = (
        {f"{head}_{name}": way for name in recognisers} for head, way in (("gap", "higher"), ("copy", "lower"))
    )
    columns: dict[str, dict[str, str]] = {
        "face_similarity": {**faces, "detected": "higher", "face_score": "none"} if recognisers else {},
        "identity_gap": gaps,
        "text_alignment": {"clip_text": "higher"},
        "image_similarity": {"clip_image": "higher", "dino": "higher"},
        "base_disturbance": {"undisturbed": "higher"},
        "copy_paste": copies,
        "diversity": {"diversity": "none"},
        "composition": {"composition": "higher", "composition_place": "higher"},
    }
    return [SimpleNamespace(name=name, about=f"{name}.", columns=own) for name, own in columns.items() if own]


def _flat(side: int) -> Callable[[str], np.ndarray]:
    """Pictures of one colour, another for every file."""

    def load(file: str) -> np.ndarray:
        colour = np.array([sum(map(ord, file)) * factor % 256 for factor in (3, 5, 7)], np.uint8)
        return np.broadcast_to(colour, (side, side, 3)).copy()

    return load


def _noise(side: int) -> Callable[[str], np.ndarray]:
    picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return lambda file: np.roll(picture, len(file), axis=0)
