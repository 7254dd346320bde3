"""Methods of one's own: they draw like ours, and what is wrong with them is said in plain words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adaface.evaluation.config import EntryPointConfig
from adaface.evaluation.methods.open import open_method
from adaface.shipped_files import sha256
from tests.adaface.evaluation.methods.tiny_methods import requests

MODULE = '''
import numpy as np

class Painter:
    """Pictures of one colour: of the ID embedding, and of the seed."""

    def __init__(self, side, generation=None):
        self.side, self.generation = side, generation

    def prepare(self, subject, photos, ids):
        return (ids.mean(axis=0)[:3] * 100 + 100).astype(np.uint8)

    def draw(self, prepared, requests):
        return [np.broadcast_to(prepared + request.seed, (self.side, self.side, 3)).astype(np.uint8) for request in requests]

    def provenance(self):
        return {"steps": self.generation.steps}

class Plain:
    def prepare(self, subject, photos, ids):
        return None
    def draw(self, prepared, requests):
        return self.made

def plain(made=()):
    method = Plain()
    method.made = made
    return method

def thing():
    return "a text"

class Half:
    def prepare(self, subject):
        return None

colour = "red"
'''


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch) -> Path:
    (tmp_path / "painters_of_tests.py").write_text(MODULE)
    (tmp_path / "needs_more_of_tests.py").write_text("import a_package_that_nobody_has\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "painters_of_tests.py"


def named(function: str, module: str = "painters_of_tests", **settings: object) -> EntryPointConfig:
    return EntryPointConfig(kind="entry_point", name="mine", entry_point=f"{module}:{function}", settings=settings)


def test_it_draws(generation, anna, ids, module):
    method = open_method(named("Painter", side=16), generation)
    prepared = method.prepare(anna, [], ids)
    first, second = method.draw(prepared, requests(1, 2))
    assert first.shape == (16, 16, 3) and first.dtype == np.uint8
    assert method.name == "mine" and not np.array_equal(first, second)
    assert method.draw(prepared, []) == []
    assert method.provenance() == {
        "kind": "entry_point",
        "entry_point": "painters_of_tests:Painter",
        "settings": {"side": 16},
        "files": {"painters_of_tests.py": sha256(module)},
        "method": {"steps": generation.steps},  # the protocol's settings came with it
    }


def test_provenance_is_its_own_affair(generation):
    assert open_method(named("plain"), generation).provenance()["method"] == {}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (named("Painter", module="nothing_of_tests"), "there is no module nothing_of_tests here"),
        (named("Painter", module="needs_more_of_tests"), "there is no module a_package_that_nobody_has here"),
        (named("Panter"), "painters_of_tests has no Panter"),
        (named("colour"), "is a str, which cannot be called"),
        (named("Painter"), "does not take these settings: .*'side'"),
        (named("Painter", side=16, size=2), "does not take these settings: .*'size'"),
    ],
)
def test_a_factory_that_cannot_be_called(generation, config, message):
    with pytest.raises(ValueError, match=message):
        open_method(config, generation)


def test_what_is_no_method(generation):
    with pytest.raises(ValueError, match=r"mine: what painters_of_tests:thing gives, a str, is no method") as error:
        open_method(named("thing"), generation)
    assert "no prepare(subject, photos, ids)" in str(error.value)
    assert "no draw(prepared, requests)" in str(error.value)


def test_an_interface_of_other_arguments(generation):
    with pytest.raises(ValueError, match=r"its prepare cannot be called as prepare\(subject, photos, ids\)") as error:
        open_method(named("Half"), generation)
    assert "it has no draw(prepared, requests)" in str(error.value)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ([np.zeros((8, 8, 3), np.uint8)], "1 pictures came for 2 requests"),
        ([np.zeros((8, 8, 3))] * 2, r"picture 1 is float64 \(8, 8, 3\)"),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)], r"picture 2 is uint8 \(8, 8\)"),
        ([np.zeros((0, 8, 3), np.uint8)] * 2, r"picture 1 is uint8 \(0, 8, 3\)"),
        (["a.png", "b.png"], "picture 1 is a str"),
    ],
)
def test_what_is_no_picture(generation, anna, ids, made, message):
    method = open_method(named("plain", made=made), generation)
    with pytest.raises(ValueError, match=rf"mine \(painters_of_tests:plain\): {message}.*draw\(\) must return"):
        method.draw(method.prepare(anna, [], ids), requests(1, 2))
