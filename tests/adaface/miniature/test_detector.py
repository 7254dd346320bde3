"""The small SCRFD: its layout, its targets, its training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from adaface.miniature.measure.detection import Tally, open_detector
from adaface.miniature.networks.detector import (
    Detector,
    concatenated,
    decode_boxes,
    decode_points,
    encode_boxes,
    encode_points,
    export_detector,
    load_detector,
    places,
)
from adaface.miniature.pictures.detector_photos import decode, load_photos
from adaface.miniature.pictures.detector_views import mirror, moved, seen_in, view
from adaface.miniature.recipes.detector import DetectorTask, assign, detection_loss, overlaps, to_tensor
from adaface.miniature.training import Trainer


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rendered")


@pytest.fixture(scope="module")
def untrained() -> Detector:
    """Random, but not silent: the scores spread around 0.5."""
    torch.manual_seed(0)
    detector = Detector().eval()
    for name, parameter in detector.named_parameters():
        if name.endswith("score.weight"):
            torch.nn.init.normal_(parameter, std=0.5)
        elif name.endswith("score.bias"):
            torch.nn.init.zeros_(parameter)
        elif name.endswith("points.weight"):
            torch.nn.init.normal_(parameter, std=0.3)
    return detector


@pytest.fixture(scope="module")
def file(untrained: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pack") / "detector.onnx"
    export_detector(untrained, path)
    return path


def face(x0: float, y0: float, x1: float, y1: float, seen: float = 1.0) -> np.ndarray:
    shares = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])
    points = shares * [x1 - x0, y1 - y0] + [x0, y0]
    return np.array([x0, y0, x1, y1, *points.reshape(-1), 0, seen], np.float32)


def test_what_is_encoded_is_decoded_again_also_by_insightface() -> None:
    scrfd = pytest.importorskip("insightface.model_zoo.scrfd")
    where, stride, _ = places(64, 96)
    rng = torch.Generator().manual_seed(0)
    boxes = torch.rand(len(where), 4, generator=rng) * 200 - 50
    points = torch.rand(len(where), 5, 2, generator=rng) * 200 - 50
    distances, offsets = encode_boxes(boxes, where, stride), encode_points(points, where, stride)
    assert torch.allclose(decode_boxes(distances, where, stride), boxes, atol=1e-3)
    assert torch.allclose(decode_points(offsets, where, stride), points, atol=1e-3)
    theirs = scrfd.distance2bbox(where.numpy(), (distances * stride[:, None]).numpy())
    assert np.allclose(theirs, boxes, atol=1e-3)
    theirs = scrfd.distance2kps(where.numpy(), (offsets * stride[:, None]).numpy())
    assert np.allclose(theirs.reshape(-1, 5, 2), points, atol=1e-3)


def test_the_file_is_a_detector_to_insightface_and_finds_what_the_network_finds(
    untrained: Detector, file: Path
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    canvas = np.zeros((128, 128, 3), np.uint8)
    canvas[:96] = image
    with torch.no_grad():
        scores, boxes, points = (concatenated(o)[0] for o in untrained(to_tensor(canvas[None], torch.device("cpu"))))
    where, stride, _ = places(128, 128)
    score = scores[:, 0].sigmoid()
    found, marks = open_detector(file)(image, 128)
    assert len(found) > 3
    for row, mark in zip(found, marks, strict=True):
        ours = int((decode_boxes(boxes, where, stride) - torch.from_numpy(row[:4])).abs().sum(1).argmin())
        assert np.allclose(decode_boxes(boxes, where, stride)[ours], row[:4], atol=0.1)
        assert float(score[ours]) == pytest.approx(float(row[4]), abs=5e-3)
        assert np.allclose(decode_points(points, where, stride)[ours], mark, atol=0.1)


def test_nine_outputs_at_any_size_in_a_small_file_of_equal_bytes(
    untrained: Detector, file: Path, tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for height, width in ((32, 64), (160, 128)):
        outputs = session.run(None, {"input": np.zeros((1, 3, height, width), np.float32)})
        counts = [2 * (height // stride) * (width // stride) for stride in (8, 16, 32)]
        assert [o.shape for o in outputs] == [(n, numbers) for numbers in (1, 4, 10) for n in counts]
        assert all(o.min() >= 0 and o.max() <= 1 for o in outputs[:3])
    export_detector(untrained, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == file.read_bytes()
    assert file.stat().st_size <= 1_500_000


@pytest.mark.parametrize("side", [12.0, 16, 23, 45, 64, 90, 128, 181, 300])
def test_every_face_has_places_that_answer_for_it(side: float) -> None:
    where, stride, anchor = places(320, 320)
    for x in np.linspace(0, 320 - side, 7):
        owner = assign(torch.from_numpy(face(x, 5, x + side * 0.9, 5 + side / 0.9)[None]), where, stride, anchor)
        mine = owner == 0
        assert 1 <= mine.sum() <= 60
        assert (anchor[mine].log2() - np.log2(max(side, 16))).abs().max() <= 0.61
        assert set(owner.unique().tolist()) == {-1, 0}


def test_hidden_and_tiny_faces_are_neither_face_nor_background() -> None:
    where, stride, anchor = places(128, 128)
    faces = np.stack([face(10, 10, 50, 60), face(70, 10, 110, 60, seen=0.3), face(10, 90, 16, 97)])
    owner = assign(torch.from_numpy(faces), where, stride, anchor)
    assert set(owner.unique().tolist()) == {-2, -1, 0}
    ignored = where[owner == -2]
    assert ((ignored[:, 0] > 60) | (ignored[:, 1] > 80)).all()
    assert (assign(torch.zeros(0, 16), where, stride, anchor) == -1).all()


def test_the_loss_of_right_answers_is_nothing_and_of_wrong_ones_something() -> None:
    where, stride, anchor = places(128, 128)
    faces = face(20, 30, 90, 110)[None]
    owner = assign(torch.from_numpy(faces), where, stride, anchor)
    truth = torch.from_numpy(faces[0])
    boxes = encode_boxes(truth[:4].expand(len(where), 4), where, stride)[None]
    points = encode_points(truth[4:14].reshape(5, 2).expand(len(where), 5, 2), where, stride)[None]
    scores = torch.where(owner == 0, 20.0, -20.0)[None]
    perfect, _ = detection_loss(scores, boxes, points, [owner], [faces], where, stride)
    assert float(perfect) < 1e-3
    for wrong in ((-scores, boxes, points), (scores, boxes * 1.2, points), (scores, boxes, points + 0.2)):
        assert float(detection_loss(*wrong, [owner], [faces], where, stride)[0]) > 0.05


def test_overlaps_of_known_boxes() -> None:
    a = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10]])
    b = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 0, 30, 10]])
    iou, giou = overlaps(a, b)
    assert torch.allclose(iou, torch.tensor([1.0, 1 / 3, 0]))
    assert torch.allclose(giou, torch.tensor([1.0, 1 / 3, -1 / 3]))


def test_labels_move_with_the_picture() -> None:
    faces = np.stack([face(10, 20, 50, 70), face(-20, 0, 20, 40)])
    assert np.allclose(mirror(mirror(faces, 100), 100), faces, atol=1e-4)
    left, right = mirror(faces, 100)[0, 4:8].reshape(2, 2)
    assert left[0] < right[0]
    assert np.allclose(moved(faces, 2.0, 3, 4)[0, :4], [23, 44, 103, 144])
    assert np.allclose(seen_in(faces, 0, 0, 100, 100)[:, 15], [1, 0.5])
    assert len(seen_in(faces, 60, 0, 100, 100)) == 0


def test_photographs_and_views_of_them(data: Path) -> None:
    photos = load_photos(data, "album", 24)
    faces = np.asarray(photos["faces"])
    there = faces[..., 15] > 0
    assert there.any(1).all()  # somebody is in every album photo
    sides = (faces[..., 2:4] - faces[..., :2])[there]
    assert sides.min() >= 23
    for row in range(20):
        height, width = decode(photos["photo"][row]).shape[:2]
        assert min(height, width) >= 160 and max(height, width) <= 512
    rng = np.random.default_rng(0)
    count = 0
    for _ in range(60):
        image, found = view([(1.0, photos)], rng, 96)
        assert image.shape == (96, 96, 3) and found.shape[1:] == (16,)
        whole = found[found[:, 15] > 0.999]
        assert (whole[:, :4] >= -1e-3).all() and (whole[:, :4] <= 96.001).all()
        assert (found[:, 15] > 0).all() and (found[:, 15] <= 1.001).all()
        count += len(found)
    assert count > 40


def test_a_resumed_run_computes_what_an_undisturbed_one_does(data: Path, tmp_path: Path) -> None:
    def trained(folder: Path, *stops: int) -> dict[str, torch.Tensor]:
        for steps in stops:
            torch.manual_seed(0)
            task = _Small(data, tmp_path, torch.device("cpu"))
            task.schedule = replace(task.schedule, batch=2)
            Trainer(task, folder, seed=0, device=torch.device("cpu")).run(until=steps)
        return task.detector.state_dict()

    straight, resumed = trained(tmp_path / "straight", 3), trained(tmp_path / "resumed", 1, 3)
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


class _Small(DetectorTask):
    photos: ClassVar = {"any": (16, 0.5), "portrait": (8, 0.3), "still": (8, 0.2)}


def test_tally_counts_what_was_found_missed_and_imagined() -> None:
    tally = Tally()
    faces = np.stack([face(10, 10, 60, 70), face(100, 10, 150, 70), face(200, 10, 250, 70, seen=0.2)])
    boxes = np.array([[11, 10, 60, 70, 0.9], [200, 10, 250, 70, 0.8], [10, 200, 60, 260, 0.7], [12, 10, 61, 70, 0.6]])
    points = faces[[0, 2, 0, 0], 4:14].reshape(-1, 5, 2)
    tally.add(boxes, points, faces, (300, 300, 3))
    numbers = tally.numbers("")
    assert numbers["faces"] == 2 and numbers["recall"] == 0.5
    assert numbers["precision"] == pytest.approx(1 / 3)  # one in the void and one found twice
    assert numbers["point_error"] == 0


def test_a_file_is_read_back(untrained: Detector, file: Path, tmp_path: Path) -> None:
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        pairs = zip(untrained(image), load_detector(file)(image), strict=True)
        for ours, read in pairs:
            assert torch.allclose(concatenated(ours), concatenated(read), atol=0.02)
    with pytest.raises(FileNotFoundError, match="train it"):
        load_detector(tmp_path / "none.onnx")
