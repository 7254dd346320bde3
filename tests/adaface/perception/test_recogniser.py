"""A recogniser of its own embeds aligned faces as the analyser of a pack does."""

from __future__ import annotations

import numpy as np
import pytest

from adaface.miniature.pictures.portraits import held_out_people
from adaface.miniature.render import render
from adaface.miniature.shipped import WEIGHTS
from adaface.miniature.world.scene import Nuisance, Scene
from adaface.perception.config import PerceptionConfig
from adaface.perception.faces import FaceAnalyser
from adaface.perception.recogniser import Recogniser


@pytest.fixture(scope="module")
def results():
    config = PerceptionConfig(
        pack=str(WEIGHTS / "pack"), detector_sizes=(160,), border=0, attributes=False, device="cpu"
    )
    pictures = [render(person, Scene(), Nuisance(), 96).image for person in held_out_people(5, seed=2)]
    found = FaceAnalyser(config).analyse(pictures)
    assert all(result.aligned is not None for result in found)
    return found


def test_it_embeds_as_the_pack_does(results):
    own = Recogniser(WEIGHTS / "pack" / "recogniser.onnx", device="cpu", batch_size=2)
    found = own.embed([result.aligned for result in results])
    np.testing.assert_allclose(found, [result.embedding for result in results], atol=1e-5)
    assert own.id_dim == 64 and found.dtype == np.float32
    assert own.embed([]).shape == (0, 64)


def test_another_one_gives_other_embeddings(results):
    judge = Recogniser(WEIGHTS / "judge" / "recogniser.onnx", device="cpu")
    found = judge.embed([result.aligned for result in results])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    among = found @ found.T
    assert among[~np.eye(5, dtype=bool)].max() < 0.8


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"recogniser .*judge\.onnx does not exist"):
        Recogniser(tmp_path / "judge.onnx")
    with pytest.raises(ValueError, match=r"detector\.onnx is not a face recogniser"):
        Recogniser(WEIGHTS / "pack" / "detector.onnx", device="cpu")
