"""The `data:` section: profiles, labels, bounds."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from data_pipeline.config import PROFILES, DataConfig, SourceConfig


def config(**data: Any) -> DataConfig:
    return DataConfig(**{"sources": [{"path": "photos"}], "output": "out", **data})


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_fills_in_every_rule(profile: str) -> None:
    made = config(profile=profile).model_dump()
    assert {key: made[key] for key in PROFILES[profile]} == PROFILES[profile]
    assert config().profile == "strict"


def test_both_profiles_name_the_same_rules_and_no_other() -> None:
    assert PROFILES["original"].keys() == PROFILES["strict"].keys()
    assert PROFILES["strict"].keys() <= DataConfig.model_fields.keys()
    required = {name for name, field in DataConfig.model_fields.items() if field.is_required()}
    assert required == {"sources", "output", *PROFILES["strict"]}


def test_what_is_given_wins_and_null_switches_off() -> None:
    made = config(profile="original", min_face=99, min_parts=None)
    assert made.min_face == 99 and made.min_parts is None and made.max_parts == 17
    assert config(min_face=None).min_face is None


def test_labels() -> None:
    assert SourceConfig(path="/a/photos/").label == "photos"
    assert SourceConfig(path="/a/photos", name="x").label == "x"
    assert SourceConfig(path="/a/who?").label == "who?"
    assert SourceConfig(path="s3://bucket/faces").label == "faces"
    assert SourceConfig(path="s3://bucket").label == "bucket"
    assert SourceConfig(path="s3://bucket/faces?endpoint_override=127.0.0.1:9000&scheme=http").label == "faces"
    assert SourceConfig(path="s3://bucket/faces/?scheme=http").label == "faces"


def test_two_sources_of_one_name_are_refused() -> None:
    with pytest.raises(ValidationError, match="several sources are called"):
        config(sources=[{"path": "/a/photos"}, {"path": "/b/photos"}])
    config(sources=[{"path": "/a/photos"}, {"path": "/b/photos", "name": "other"}])


@pytest.mark.parametrize("name", ["a/b", "/", ".", "..", ""])
def test_a_name_that_would_break_the_names_of_identities_is_refused(name: str) -> None:
    """An identity is "<source>/<folder>", cut at the first slash."""
    with pytest.raises(ValidationError):
        config(sources=[{"path": "photos", "name": name}])


@pytest.mark.parametrize("path", ["/", ".", "..", "photos/."])
def test_a_folder_without_a_name_needs_one(path: str) -> None:
    with pytest.raises(ValidationError, match="name"):
        config(sources=[{"path": path}])
    config(sources=[{"path": path, "name": "photos"}])


@pytest.mark.parametrize(
    "data",
    [
        {"sources": []},
        {"unknown": 1},
        {"profile": "lenient"},
        {"profile": ["strict"]},
        {"image_size": 500},
        {"image_size": 513},
        {"part_size": 0},
        {"shard_size": 0},
        {"split": "a/b"},
        {"split": ""},
        {"limit": 0},
        {"seed": -1},
        {"near_duplicate_bits": 65},
        {"min_identity_similarity": 1.01},
        {"resize": "fit"},
        {"sources": [{"path": "x", "layout": "nested"}]},
        {"sources": [{"path": "x", "max_per_identity": 0}]},
    ],
)
def test_what_makes_no_sense_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        config(**data)
