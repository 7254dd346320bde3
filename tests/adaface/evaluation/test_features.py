"""All networks together, on rendered pictures."""

from __future__ import annotations

import numpy as np
import pytest

from adaface.evaluation.features import FeatureReader
from adaface.evaluation.gallery import Gallery
from adaface.evaluation.recognisers import faces_config
from adaface.miniature.measure.found_faces import FaceReader
from adaface.miniature.shipped import WEIGHTS
from adaface.perception.pack import sha256
from tests.adaface.evaluation.known_pictures import album, measures, reader

HERE = "tests.adaface.evaluation.test_features"
SHOWN = slice(0, 8)  # one of each kind


def lazy_classifier():
    return lambda images: {"place": ["beach"]}


def close(one: Gallery, other: Gallery, tolerance: float = 2e-5) -> None:
    np.testing.assert_array_equal(one.faces, other.faces)
    np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-3)
    for group in ("embeddings", "images"):
        for name, rows in getattr(one, group).items():
            np.testing.assert_allclose(rows, getattr(other, group)[name], atol=tolerance, err_msg=name)
    assert one.seen == other.seen


@pytest.fixture(scope="module")
def found() -> Gallery:
    return reader().read(album().images[SHOWN])


def test_features_have_the_shapes_that_they_say(found):
    assert found.faces.dtype == np.int32 and found.boxes.dtype == found.scores.dtype == np.float32
    assert {name: rows.shape for name, rows in found.embeddings.items()} == {"pack": (8, 64), "judge": (8, 64)}
    assert {name: rows.shape for name, rows in found.images.items()} == {"clip": (8, 128), "dino": (8, 96)}
    assert list(found.seen) == ["place", "clothing", "headwear", "eyewear", "style", "light"]
    for rows in found.images.values():
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_no_face_is_a_row_of_zeros(found):
    methods = [picture.method for picture in album().pictures[SHOWN]]
    nobody = methods.index("landscape")
    np.testing.assert_array_equal(found.detected, [method != "landscape" for method in methods])
    for rows in found.embeddings.values():
        assert not rows[nobody].any()
        np.testing.assert_allclose(np.linalg.norm(rows[found.detected], axis=1), 1, atol=1e-5)
    assert np.isnan(found.boxes[nobody]).all() and np.isnan(found.scores[nobody])
    assert np.isfinite(found.boxes[found.detected]).all() and (found.scores[found.detected] > 0.9).all()


def test_faces_are_those_of_the_miniatures_own_measures(found):
    """Which align by their own code and embed with torch, not with onnxruntime."""
    own = FaceReader(WEIGHTS).read(album().images[SHOWN])
    for name in ("pack", "judge"):
        agreement = (own.of(name) * found.embeddings[name]).sum(axis=1)
        assert (agreement[own.found] > 0.99).all(), name


def test_neither_order_nor_batch_size_matters(found):
    images = album().images[SHOWN]
    order = np.random.default_rng(0).permutation(len(images))
    close(reader().read([images[row] for row in order]), found.select(order))
    one_by_one = FeatureReader(measures(batch=1))
    close(one_by_one.read(images), found)
    parts = Gallery.concat([reader().read(images[:3]), reader().read(images[3:])])
    close(parts, found)


def test_no_pictures_are_no_rows(found):
    empty = reader().read([])
    assert len(empty) == 0
    assert {name: rows.shape for name, rows in empty.embeddings.items()} == {"pack": (0, 64), "judge": (0, 64)}
    assert empty.images["clip"].shape == (0, 128) and list(empty.seen) == list(found.seen)


def test_equal_texts_are_read_once(monkeypatch):
    read = []
    clip = reader()._clip
    texts = clip.texts
    monkeypatch.setattr(clip, "texts", lambda some: read.extend(some) or texts(some))
    found = reader().texts(["a man", "a woman", "a man", "a man"])
    assert read == ["a man", "a woman"]
    np.testing.assert_array_equal(found[[0, 0]], found[[2, 3]])
    assert found[0] @ found[1] < 0.99


def test_every_model_is_known_by_its_hash():
    models = reader().models
    assert list(models) == ["detector", "pack", "judge", "clip", "dino", "scene_classifier"]
    assert models["judge"] == {
        "id": "package://adaface.miniature/weights/judge/recogniser.onnx",
        "file": "recogniser.onnx",
        "sha256": sha256(WEIGHTS / "judge" / "recogniser.onnx"),
    }
    assert models["clip"]["sha256"] == sha256(WEIGHTS / "clip" / "model.safetensors")
    assert models["dino"]["sha256"] == sha256(WEIGHTS / "factors" / "classifier.safetensors")


def test_only_what_is_configured_is_there():
    faces_only = FeatureReader(measures(clip=None, image_encoders={}, scene_classifier=None, judges=[]))
    found = faces_only.read(album().images[:2])
    assert list(faces_only.models) == ["detector", "pack"]
    assert list(found.embeddings) == ["pack"] and not found.images and not found.seen
    with pytest.raises(ValueError, match=r"no CLIP is configured.*set `measures\.clip`"):
        faces_only.texts(["a man"])


def test_parity_features_come_besides():
    both = reader("parity").read(album().images[:2])
    assert list(both.embeddings) == ["pack", "judge", "parity_face"]
    assert list(both.images) == ["clip", "dino", "parity_clip", "parity_dino"]
    close(reader().read(album().images[:2]), both)


def test_a_classifier_that_does_not_keep_to_its_interface_is_named():
    lazy = FeatureReader(
        measures(clip=None, image_encoders={}, judges=[], scene_classifier={"entry_point": f"{HERE}:lazy_classifier"})
    )
    with pytest.raises(ValueError, match="the scene classifier gave 1 words of place for 2 pictures"):
        lazy.read(album().images[:2])
    assert lazy.models["scene_classifier"] == {"id": f"{HERE}:lazy_classifier"}


@pytest.mark.parametrize("image", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32), "a.png"])
def test_what_is_no_picture_is_refused(image):
    with pytest.raises(ValueError, match=r"a picture must be RGB uint8 \(H, W, 3\)"):
        reader().read([image])


def test_faces_run_as_all_measures_do_unless_they_say_otherwise():
    general = faces_config(measures(device="cpu", batch=7, threads=2))
    assert (general.device, general.batch_size, general.threads) == ("cpu", 7, 2)
    pack = {"pack": "package://adaface.miniature/weights/pack", "device": "auto", "threads": 3}
    own = faces_config(measures(faces=pack, device="mps", batch=7))
    assert (own.device, own.batch_size, own.threads) == ("auto", 7, 3)
    assert not own.attributes
