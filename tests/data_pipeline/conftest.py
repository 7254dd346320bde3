"""The tiny world's models and photos, once for the whole folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.data_pipeline.phases import World, world
from tests.data_pipeline.tables import Photos
from tests.tiny_world import make_pack, make_parser, make_photos


@pytest.fixture(scope="session")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pack(tmp_path_factory.mktemp("pack"))


@pytest.fixture(scope="session")
def parser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_parser(tmp_path_factory.mktemp("parser") / "parser.onnx")


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 photos of 4 people: not to be changed."""
    return make_photos(tmp_path_factory.mktemp("world") / "photos")


@pytest.fixture(scope="session")
def made(photos: Path, pack: Path, parser: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished dataset of `photos`, 24 samples in 3 shards: not to be changed."""
    out = tmp_path_factory.mktemp("made") / "out"
    world(photos, pack, out, parser).build()
    return out


@pytest.fixture
def finished(made: Path, photos: Path, pack: Path, parser: Path, tmp_path: Path) -> World:
    """A copy of `made` of one's own."""
    return world(photos, pack, shutil.copytree(made, tmp_path / "out"), parser)


@pytest.fixture
def two_people() -> Photos:
    """Rows of two sound people of five photos each: 0..4 and 5..9."""
    made = Photos()
    made.person("ann", 0)
    made.person("bob", 1)
    return made
