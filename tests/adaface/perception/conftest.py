"""Tiny ONNX models with the shapes of real ones, photos, and one analyser for all tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from adaface.perception.config import PerceptionConfig
from adaface.perception.faces import FaceAnalyser

Shape = Sequence[int | str]
MakeOnnx = Callable[..., Path]
Photo = Callable[[str], np.ndarray]


def _make(path: Path, inputs: Sequence[Shape], outputs: Sequence[Shape], *, average: bool = False) -> Path:
    """A model whose outputs are its first input, or that input's mean per channel, (N, channels).

    onnxruntime runs it where the shapes say the truth; reading the graph does not care.
    """
    inputs_ = [helper.make_tensor_value_info(f"in{i}", TensorProto.FLOAT, shape) for i, shape in enumerate(inputs)]
    outputs_ = [helper.make_tensor_value_info(f"out{i}", TensorProto.FLOAT, shape) for i, shape in enumerate(outputs)]
    nodes = []
    for i in range(len(outputs)):
        if average:
            nodes.append(helper.make_node("GlobalAveragePool", ["in0"], [f"mean{i}"]))
            nodes.append(helper.make_node("Flatten", [f"mean{i}"], [f"out{i}"]))
        else:
            nodes.append(helper.make_node("Identity", ["in0"], [f"out{i}"]))
    graph = helper.make_graph(nodes, "tiny", inputs_, outputs_)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


@pytest.fixture
def make_onnx() -> MakeOnnx:
    return _make


@pytest.fixture
def make_role() -> Callable[[Path, str], Path]:
    """Writes a model of the shapes by which the given role is known."""

    def make(path: Path, role: str) -> Path:
        if role == "detection":
            return _make(path, [(1, 3, "h", "w")], [(1, 12800, 1)] * 9)
        side, outputs = {
            "recognition": (112, 512),
            "genderage": (96, 3),
            "landmark_2d_106": (192, 212),
            "landmark_3d_68": (192, 3309),
        }[role]
        return _make(path, [("N", 3, side, side)], [("N", outputs)])

    return make


@pytest.fixture(scope="session")
def photo(shared: Path) -> Photo:
    """Reads faces/NAME.jpg as RGB uint8 (H, W, 3)."""

    def read(name: str) -> np.ndarray:
        with Image.open(shared / "faces" / f"{name}.jpg") as image:
            return np.asarray(image.convert("RGB"))

    return read


@pytest.fixture(scope="session")
def pack_folder(shared: Path) -> Path:
    return shared / "models" / "real_pack"


@pytest.fixture(scope="session")
def analyser(pack_folder: Path) -> FaceAnalyser:
    return FaceAnalyser(PerceptionConfig(pack=str(pack_folder), device="cpu"))
