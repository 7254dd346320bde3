"""The original's preprocessing on fixed pictures, against the same worked out here by other means."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPModel, ViTModel

from adaface.evaluation.clip_features import ClipFeatures
from adaface.evaluation.gallery import Gallery
from adaface.evaluation.image_encoders import VisionTransformer
from adaface.evaluation.metrics.parity import Parity
from adaface.evaluation.parity_reader import ParityReader
from adaface.evaluation.torch_models import Running
from adaface.miniature.pictures.portraits import held_out_people
from adaface.miniature.render import Sitter, render, render_people
from adaface.miniature.render.stills import render_still
from adaface.miniature.shipped import WEIGHTS
from adaface.miniature.world.scene import Nuisance, Scene
from adaface.perception.config import PerceptionConfig
from tests.adaface.evaluation.metrics.small_tables import picture, references, table
from tests.adaface.evaluation.tiny_vision import CLIP_INPUT, DINO_INPUT, save_clip, save_dino

TEXTS = ["a photo of a man on the beach", "a woman"]


@cache
def photos() -> list[np.ndarray]:
    """Three of one person, one wide with two people, and one of nobody."""
    ann, bob = held_out_people(2, seed=8)
    nearer = Sitter(bob, Scene(), Nuisance(scale=0.30, dx=-0.25, dy=-0.15))  # larger
    lower = Sitter(ann, Scene(), Nuisance(scale=0.22, dx=0.25, dy=0.24))  # what the original takes for larger
    return [
        render(ann, Scene(), Nuisance(seed=1), 300).image,
        render(ann, Scene(place="snow"), Nuisance(yaw=0.2, seed=2), 222).image,
        render_people([nearer, lower], Scene(), Nuisance(seed=3), 400, 560),
        render_still(4, 200, 260),
        render(ann, Scene(clothing="armor"), Nuisance(smile=0.9, seed=5), 512).image,
    ]


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return [getattr(made, "image", made) for made in photos()]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return save_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    return save_dino(tmp_path_factory.mktemp("models") / "dino")


@pytest.fixture(scope="module")
def found(clip, dino, images) -> Gallery:
    running = Running.on("cpu", batch=2)
    faces = PerceptionConfig(pack=str(WEIGHTS / "pack"), device="cpu")
    models = ParityReader(faces, ClipFeatures(clip, running), {"dino": VisionTransformer(dino, running)})
    return models.read(images, photos=True)


def nearest(image: np.ndarray, side: int) -> np.ndarray:
    """The pixel below the centre of each new one."""
    height, width = image.shape[:2]
    rows = ((np.arange(side) + 0.5) * height / side).astype(int)
    columns = ((np.arange(side) + 0.5) * width / side).astype(int)
    return image[rows][:, columns]


def cubic_weights(before: int, after: int) -> np.ndarray:
    """(after, before): Keys' cubic with a = -0.75 on the four nearest pixels, edges repeated, no antialiasing."""
    weights = np.zeros((after, before))
    for row in range(after):
        centre = (row + 0.5) * before / after - 0.5
        for column in range(int(np.floor(centre)) - 1, int(np.floor(centre)) + 3):
            x, a = abs(centre - column), -0.75
            near = (a + 2) * x**3 - (a + 3) * x**2 + 1
            far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
            weights[row, min(max(column, 0), before - 1)] += near if x <= 1 else far
    return weights


def unit(rows) -> np.ndarray:
    values = np.asarray(rows, np.float64)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


@torch.no_grad()
def clip_rows(folder, images) -> np.ndarray:
    weights = cubic_weights(256, 224)
    rows = []
    for image in images:
        values = nearest(image, 256) / 255
        scaled = weights @ values.transpose(2, 0, 1) @ weights.T
        mean, std = (np.reshape(CLIP_INPUT[name], (3, 1, 1)) for name in ("image_mean", "image_std"))
        rows.append(((scaled - mean) / std).astype(np.float32))
    made = CLIPModel.from_pretrained(folder).get_image_features(torch.from_numpy(np.stack(rows)))
    return unit(getattr(made, "pooler_output", made))


@torch.no_grad()
def dino_rows(folder, images) -> np.ndarray:
    rows = []
    for image in images:
        small = Image.fromarray(nearest(image, 256)).resize((224, 224), Image.Resampling.BILINEAR)
        values = (np.asarray(small) / 255 - DINO_INPUT["image_mean"]) / DINO_INPUT["image_std"]
        rows.append(values.transpose(2, 0, 1).astype(np.float32))
    return unit(ViTModel.from_pretrained(folder)(torch.from_numpy(np.stack(rows))).last_hidden_state[:, 0])


@cache
def face_rows() -> list[tuple[np.ndarray, np.ndarray] | None]:
    """(box in the squeezed picture, unit embedding) by insightface itself, or None."""
    from insightface.model_zoo import get_model
    from insightface.utils.face_align import norm_crop

    detector = get_model(str(WEIGHTS / "pack" / "detector.onnx"), providers=["CPUExecutionProvider"])
    recogniser = get_model(str(WEIGHTS / "pack" / "recogniser.onnx"), providers=["CPUExecutionProvider"])
    rows: list[tuple[np.ndarray, np.ndarray] | None] = []
    for made in photos():
        bgr = np.ascontiguousarray(nearest(getattr(made, "image", made), 512)[:, :, ::-1])
        boxes, points = detector.detect(bgr, input_size=(512, 512), det_thresh=0.5)
        if not len(boxes):
            rows.append(None)
            continue
        key = (boxes[:, 2] - boxes[:, 0]) * boxes[:, 3] - boxes[:, 1]
        best = int(key.argmax())
        crop = norm_crop(bgr, points[best], image_size=112)
        rows.append((boxes[best, :4], unit(recogniser.get_feat(crop)[0])))
    return rows


@pytest.fixture(scope="module")
def whole(clip, dino, images) -> dict[str, np.ndarray]:
    return {"parity_clip": clip_rows(clip, images), "parity_dino": dino_rows(dino, images)}


def test_clip_sees_the_same(found, whole, clip, images):
    own = whole["parity_clip"]
    np.testing.assert_allclose(found.images["parity_clip"], own, atol=2e-5)
    # and that is another thing than what it sees otherwise
    smoothed = ClipFeatures(clip, Running.on("cpu")).images(images)
    assert abs(smoothed - own).max() > 1e-3


def test_dino_sees_the_same(found, whole):
    np.testing.assert_allclose(found.images["parity_dino"], whole["parity_dino"], atol=2e-5)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # scikit-image's, about a call inside insightface
def test_the_same_faces_are_found_and_embedded(found, images):
    expected = face_rows()
    np.testing.assert_array_equal(found.detected, [row is not None for row in expected])
    assert found.detected.tolist() == [True, True, True, False, True]
    for index, row in enumerate(expected):
        if row is None:
            assert not found.embeddings["parity_face"][index].any()
            continue
        height, width = images[index].shape[:2]
        np.testing.assert_allclose(found.boxes[index] / [width, height, width, height], row[0] / 512, atol=1e-4)
        np.testing.assert_allclose(found.embeddings["parity_face"][index], row[1], atol=1e-4)


def test_of_two_faces_the_lower_one_is_taken_for_the_larger(found):
    """The original's key, (x2 - x1) * y2 - y1: here it prefers a face of half the area."""
    two = photos()[2]
    boxes = [face.box for face in two.faces]
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in boxes]
    assert areas[0] > 1.6 * areas[1]
    centre = (found.boxes[2][:2] + found.boxes[2][2:]) / 2
    lower = boxes[1]
    assert (lower[:2] < centre).all() and (centre < lower[2:]).all()
    assert found.faces[2] == 2


def test_scores_are_the_means_over_all_pairs(found, whole, clip):
    """Photos 0 and 2 and nobody's are the references; the generated pictures are 1, 3 (no face) and 4."""
    shown, drawn = [0, 2, 3], [1, 3, 4]
    text = ClipFeatures(clip, Running.on("cpu")).texts([TEXTS[0]] * 3)
    scores = Parity(clip=True, encoders=["dino"]).score(
        table([picture(k=k) for k in range(3)], found.select(drawn), text=text), references(found.select(shown))
    )
    for column, rows in (("parity_clip_image", whole["parity_clip"]), ("parity_dino", whole["parity_dino"])):
        pairs = [[float(rows[i] @ rows[j]) for j in shown] for i in drawn]
        assert scores[column] == pytest.approx(np.mean(pairs, axis=1), abs=2e-5)
    faces = face_rows()
    expected = []
    for i in drawn:
        pairs = [faces[i][1] @ faces[j][1] for j in shown if faces[i] is not None and faces[j] is not None]
        expected.append(np.mean(pairs) if pairs else np.nan)
    assert np.isnan(expected[1])
    assert scores["parity_face"] == pytest.approx(expected, abs=1e-4, nan_ok=True)
    assert scores["parity_no_face"].tolist() == [0, 1, 0]
    assert scores["parity_clip_text"] == pytest.approx(whole["parity_clip"][drawn] @ text[0], abs=2e-5)


def test_the_original_texts_are_cut_and_of_unit_length(clip):
    model = CLIPModel.from_pretrained(clip)
    features = ClipFeatures(clip, Running.on("cpu"))
    with torch.no_grad():
        tokens = features._tokenizer(TEXTS, padding=True, return_tensors="pt")
        made = model.get_text_features(**tokens)
    np.testing.assert_allclose(features.texts(TEXTS), unit(getattr(made, "pooler_output", made)), atol=2e-5)


def test_what_was_drawn_has_been_through_the_originals_file(clip, images, tmp_path):
    """Photos are read as they are; pictures by way of PIL's JPEG with its default quality, which is 75."""
    faces = PerceptionConfig(pack=str(WEIGHTS / "pack"), device="cpu")
    models = ParityReader(faces, ClipFeatures(clip, Running.on("cpu")), {})
    saved = []
    for index in (0, 4):
        Image.fromarray(images[index]).save(tmp_path / f"{index}.jpg")
        saved.append(np.asarray(Image.open(tmp_path / f"{index}.jpg")))
    drawn = [images[0], images[4]]
    found, again, photos = models.read(drawn), models.read(saved, photos=True), models.read(drawn, photos=True)
    for name in ("parity_face", "parity_clip"):
        rows, expected, plain = ({**one.embeddings, **one.images}[name] for one in (found, again, photos))
        np.testing.assert_array_equal(rows, expected)
        assert abs(rows - plain).max() > 1e-4
