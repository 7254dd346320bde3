"""Words for columns: every column of every metric has them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from adaface.evaluation.config import MeasuresConfig
from adaface.evaluation.metrics.registry import metrics_for
from adaface.evaluation.prompts import Prompt
from adaface.evaluation.report import describe_columns
from adaface.evaluation.report.columns import GROUPS, short_model


def measures(**changes: Any) -> MeasuresConfig:
    return MeasuresConfig.model_validate(
        {
            "faces": {"pack": "/home/me/models/antelopev2"},
            "judges": [{"name": "judge", "file": "/home/me/judge.onnx"}],
            "clip": "openai/clip-vit-base-patch32",
            "image_encoders": {"dino": {"model": "facebook/dino-vits16"}, "own": {"entry_point": "my.net:make"}},
            "scene_classifier": {"entry_point": "my.scenes:Classifier"},
            "mode": "parity",
        }
        | changes
    )


def test_every_column_of_every_metric_is_described() -> None:
    config = measures()
    metrics = metrics_for(config, prompts=[Prompt("p", "place", "a {}", {"place": "beach", "style": "photo"})])
    columns = describe_columns(metrics, config)
    wanted = {column: direction for metric in metrics for column, direction in metric.columns.items()}
    assert set(wanted) | {"identity_pack", "identity_judge"} == set(columns)
    for name, direction in wanted.items():
        assert columns[name].direction == direction
        assert columns[name].group != "other", name
        assert columns[name].about.endswith(".")
        assert columns[name].model, name
    labels = [column.label for column in columns.values()]
    assert len(set(labels)) == len(labels)
    order = list(GROUPS)
    places = [order.index(column.group) for column in columns.values()]
    assert places == sorted(places)


def test_who_used_what_in_training_is_said() -> None:
    judges = [
        {"name": "judge", "file": "j.onnx", "used_in_training": True},
        {"name": "third", "file": "t.onnx", "used_in_training": False},
        {"name": "fourth", "file": "f.onnx"},
    ]
    config = measures(judges=judges)
    columns = describe_columns(metrics_for(config), config)
    assert columns["face_judge"].model == "j.onnx (used in training)"
    assert columns["face_third"].model == "t.onnx (not used in training)"
    assert columns["face_fourth"].model == "f.onnx (it is not said whether it was used in training)"
    assert columns["face_pack"].model == "antelopev2 (encoders read its embeddings)"
    assert columns["face_third"].about == "The same as with pack, by another recogniser."


def test_one_recogniser_needs_no_name() -> None:
    config = measures(judges=[])
    assert describe_columns(metrics_for(config), config)["face_pack"].label == "Face similarity"


def test_an_unknown_metric_says_its_own_words() -> None:
    metric: Any = SimpleNamespace(name="beauty", about="What someone likes.", columns={"beauty_score": "higher"})
    column = describe_columns([metric], measures())["beauty_score"]
    assert (column.label, column.about, column.group) == ("beauty score", "What someone likes.", "other")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("package://adaface.miniature/weights/pack", "adaface.miniature/weights/pack"),
        ("/home/me/models/antelopev2/", "antelopev2"),
        ("openai/clip-vit-base-patch32", "openai/clip-vit-base-patch32"),
        ("../models/clip", "clip"),
        ("judge.onnx", "judge.onnx"),
        ("", ""),
    ],
)
def test_models_are_named_without_the_folders_of_a_machine(path: str, name: str) -> None:
    assert short_model(path) == name
