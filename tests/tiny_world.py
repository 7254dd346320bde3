"""Photos and models so small that a whole dataset is built in seconds, for tests of everything but accuracy.

The detector sees one face in the middle of every picture that is not black. The recogniser embeds the colours of the
aligned face. A person is a pattern of 6 x 6 colours; photos of one person differ in noise and brightness.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

SIDE = 64  # detector input, px
_STRIDES = (8, 16, 32)


def make_pack(folder: Path, strength: float = 1.0) -> Path:
    """An insightface pack of two constant-time models; another `strength` gives other embeddings."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(_detector(), str(folder / "det_tiny.onnx"))
    onnx.save(_recogniser(strength), str(folder / "rec_tiny.onnx"))
    return folder


def make_parser(file: Path) -> Path:
    """A parser of two channels, skin and hair, for 64 px pictures: bright pixels are skin, reddish ones hair."""
    channels = np.array([[0.4, 0.4, 0.4], [1.2, -0.6, -0.6]], np.float32).reshape(2, 3, 1, 1)
    nodes = [helper.make_node("Conv", ["x", "w"], ["conv"]), helper.make_node("Sigmoid", ["conv"], ["y"])]
    _save(file, nodes, {"w": channels}, ("x", [1, 3, SIDE, SIDE]), [("y", [1, 2, SIDE, SIDE])])
    return file


def photo(person: int, number: int, size: int = 160, noise: float = 12.0) -> Image.Image:
    """Photo `number` of `person`, (size, size) RGB."""
    pattern = np.random.default_rng(1000 + person).uniform(30, 225, (6, 6, 3)).astype(np.uint8)
    picture = np.asarray(Image.fromarray(pattern).resize((size, size), Image.Resampling.BICUBIC), np.float32)
    rng = np.random.default_rng(person * 10_007 + number)
    coarse = rng.normal(0, noise, (12, 12, 3)).astype(np.float32)
    grain = np.stack([np.asarray(Image.fromarray(coarse[..., c]).resize((size, size))) for c in range(3)], axis=-1)
    return Image.fromarray(np.clip(picture + grain + rng.uniform(-15, 15), 0, 255).astype(np.uint8))


def make_photos(root: Path, people: int = 4, each: int = 6) -> Path:
    """Identity folders person-00, person-01, ... with JPEG photos."""
    for person in range(people):
        folder = root / f"person-{person:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(each):
            photo(person, number).save(folder / f"{number:03d}.jpg", quality=92)
    return root


def settings(photos: Path, pack: Path, out: Path | str, **data: object) -> dict:
    """A configuration, as a mapping, that builds `photos` into `out` with 4 images to a part and 8 to a shard."""
    return {
        "data": {
            "sources": [{"path": str(photos), "name": "tiny", "licence": "test"}],
            "output": str(out),
            "image_size": SIDE,
            "part_size": 4,
            "shard_size": 8,
            "min_side": 64,
            "min_face": 16,
            "min_parts": None,
            "max_parts": None,
            "min_sharpness": None,
            "max_pitch": None,
            "near_duplicate_bits": None,
            "near_duplicate_similarity": None,
            **data,
        },
        "perception": {"pack": str(pack), "detector_sizes": [SIDE], "border": 0.25},
        "cluster": {"workers": 2},
    }


def _detector() -> onnx.ModelProto:
    """SCRFD's nine outputs, constant but for the score, which is 0.9 times whether the picture has any light."""
    arrays: dict[str, np.ndarray] = {"dark": np.array(-0.97, np.float32)}
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["brightest"], keepdims=0),
        helper.make_node("Greater", ["brightest", "dark"], ["lit"]),
        helper.make_node("Cast", ["lit"], ["light"], to=TensorProto.FLOAT),
    ]
    outputs = []
    points = np.array([[-8, -8], [8, -8], [0, 1], [-6, 9], [6, 9]], np.float32).ravel() / 8
    for stride in _STRIDES:
        anchors = 2 * (SIDE // stride) ** 2
        score = np.zeros((anchors, 1), np.float32)
        if stride == 8:
            score[(4 * (SIDE // 8) + 4) * 2] = 0.9  # the anchor at (32, 32)
        arrays[f"score{stride}"] = score
        arrays[f"box{stride}"] = np.full((anchors, 4), 2.5, np.float32)
        arrays[f"points{stride}"] = np.tile(points, (anchors, 1)).astype(np.float32)
    for kind, width in (("score", 1), ("box", 4), ("points", 10)):
        for stride in _STRIDES:
            factor = "light" if kind == "score" else "one"
            nodes.append(helper.make_node("Mul", [f"{kind}{stride}", factor], [f"{kind}_out{stride}"]))
            outputs.append((f"{kind}_out{stride}", [len(arrays[f"{kind}{stride}"]), width]))
    arrays["one"] = np.array(1, np.float32)
    return _model(nodes, arrays, ("x", [1, 3, SIDE, SIDE]), outputs)


def _recogniser(strength: float) -> onnx.ModelProto:
    nodes = [
        helper.make_node("AveragePool", ["x"], ["pooled"], kernel_shape=[14, 14], strides=[14, 14]),
        helper.make_node("ReduceMean", ["pooled"], ["mean"], axes=[2, 3], keepdims=1),
        helper.make_node("Sub", ["pooled", "mean"], ["centred"]),
        helper.make_node("Flatten", ["centred"], ["flat"]),
        helper.make_node("Mul", ["flat", "scale"], ["y"]),
    ]
    scale = np.ones(192, np.float32)
    scale[:64] = strength
    return _model(nodes, {"scale": scale}, ("x", ["N", 3, 112, 112]), [("y", ["N", 192])])


def _model(nodes: list, arrays: dict[str, np.ndarray], entry: tuple, outputs: list[tuple]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(entry[0], TensorProto.FLOAT, entry[1])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def _save(file: Path, nodes: list, arrays: dict[str, np.ndarray], entry: tuple, outputs: list[tuple]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(_model(nodes, arrays, entry, outputs), str(file))
