"""The detector's second look: where it samples, what it changes, and that one file holds both looks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from adaface.miniature.networks.detector import (
    Detector,
    _ForInsightface,
    export_detector,
    load_detector,
    load_second_look,
)
from adaface.miniature.networks.second_look import CANDIDATES, SecondLook, _sampled
from adaface.miniature.recipes.second_look import second_loss

SIZE = (160, 192)


@pytest.fixture(scope="module")
def detector() -> Detector:
    """Random, but not silent."""
    torch.manual_seed(0)
    made = Detector().eval()
    for name, parameter in made.named_parameters():
        if name.endswith("score.weight"):
            torch.nn.init.normal_(parameter, std=0.5)
        elif name.endswith("score.bias"):
            torch.nn.init.zeros_(parameter)
    return made


@pytest.fixture(scope="module")
def second() -> SecondLook:
    torch.manual_seed(1)
    made = SecondLook().eval()
    torch.nn.init.normal_(made.out.weight, std=0.3)
    return made


def outputs(file: Path, image: np.ndarray) -> list[np.ndarray]:
    import onnxruntime

    return onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"]).run(None, {"input": image})


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(1, 3, *SIZE)).astype(np.float32)


def test_features_are_sampled_where_the_pixels_are() -> None:
    """Output i of a convolution of stride s is centred on pixel i * s."""
    x, y = torch.meshgrid(torch.arange(12.0), torch.arange(9.0), indexing="xy")
    ramp = torch.stack([x, y])[None]
    where = torch.tensor([[8.0, 4.0], [10.0, 30.0], [44.0, 0.0]])
    found = _sampled(ramp, where.reshape(1, 1, 1, 3, 2), stride=4.0)
    assert torch.allclose(found.reshape(3, 2), where / 4, atol=1e-5)


def test_an_untrained_second_look_changes_nothing(detector: Detector, image: np.ndarray, tmp_path: Path) -> None:
    export_detector(detector, tmp_path / "one.onnx")
    export_detector(detector, tmp_path / "two.onnx", SecondLook())
    for one, two in zip(outputs(tmp_path / "one.onnx", image), outputs(tmp_path / "two.onnx", image), strict=True):
        assert np.allclose(one, two, atol=1e-4)


def test_the_file_computes_what_the_networks_compute(
    detector: Detector, second: SecondLook, image: np.ndarray, tmp_path: Path
) -> None:
    """At another size than the one it was exported with."""
    export_detector(detector, tmp_path / "two.onnx", second)
    again = _ForInsightface(load_detector(tmp_path / "two.onnx"), load_second_look(tmp_path / "two.onnx")).eval()
    with torch.inference_mode():
        expected = again(torch.from_numpy(image))
        once = _ForInsightface(load_detector(tmp_path / "two.onnx"), None)(torch.from_numpy(image))
    changed = 0
    for want, first, got in zip(expected, once, outputs(tmp_path / "two.onnx", image), strict=True):
        assert np.allclose(want, got, atol=2e-3)
        if got.shape[1] == 10:
            changed += int((np.abs(got - first.numpy()).max(1) > 1e-2).sum())
    assert 0.8 * CANDIDATES < changed <= CANDIDATES
    assert (tmp_path / "two.onnx").stat().st_size < 2_000_000


def test_both_looks_are_read_back(detector: Detector, second: SecondLook, tmp_path: Path) -> None:
    export_detector(detector, tmp_path / "two.onnx", second)
    read = load_second_look(tmp_path / "two.onnx").state_dict()
    assert all(torch.allclose(read[name], tensor, atol=1e-3) for name, tensor in second.state_dict().items())
    export_detector(detector, tmp_path / "one.onnx")
    with pytest.raises(ValueError, match="no second look of this kind"):
        load_second_look(tmp_path / "one.onnx")


def test_right_answers_cost_nothing_and_hidden_faces_do_not_count() -> None:
    box = torch.tensor([20.0, 20.0, 80.0, 100.0])
    points = torch.rand(5, 2) * 40 + 30
    hidden = torch.tensor([120.0, 20.0, 180.0, 100.0])
    faces = torch.zeros(2, 16)
    faces[0, :4], faces[0, 4:14], faces[0, 15] = box, points.flatten(), 1.0
    faces[1, :4], faces[1, 15] = hidden, 0.1  # of it is seen
    away = torch.tensor([300.0, 300.0, 340.0, 340.0])
    once = torch.stack([box + 3, hidden + 2, away])[None]
    boxes, marks = torch.stack([box, hidden, away])[None], torch.stack([points] * 3)[None]
    # the face is scored 1, the void 0, the hidden face whatever one likes
    right, numbers = second_loss(torch.tensor([[12.0, 12.0, -12.0]]), once, boxes, marks, [faces])
    assert float(right) < 1e-3 and numbers["overlap"] == pytest.approx(1.0)
    wrong, _ = second_loss(torch.tensor([[12.0, 12.0, 12.0]]), once, boxes + 8, marks + 4, [faces])
    assert float(wrong) > 5
    nobody, _ = second_loss(torch.tensor([[-12.0, -12.0, -12.0]]), once, boxes, marks, [faces[:0]])
    assert float(nobody) < 1e-3
