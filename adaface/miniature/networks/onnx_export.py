"""Small ONNX files from torch modules: batch normalisation folded in, weights stored as half floats."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    import onnx

_OPSET = 17
# Tensors below this many numbers (biases, shapes) stay as they are: nothing is gained there.
_WORTH_HALVING = 256
_HALF = ".half"


def export_onnx(
    network: nn.Module,
    example: Tensor,
    path: Path,
    *,
    outputs: list[str],
    dynamic: dict[str, dict[int, str]] | None = None,
    halve: bool = True,
) -> None:
    """Write `network`, in eval mode, as it runs on `example`; its input is called "input".

    `dynamic` names the axes whose length may differ from the example's, per input or output. With `halve` weights
    are stored in 16 bits and cast when the file is loaded; all arithmetic stays in float32. Equal weights give an
    equal file. The folder is made.
    """
    import onnx

    network.eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), torch.no_grad():
        # the exporter that does without onnxscript announces its end with every call
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (example,),
            path,
            input_names=["input"],
            output_names=outputs,
            dynamic_axes=dynamic,
            opset_version=_OPSET,
            dynamo=False,
        )
    model = onnx.load(str(path))
    if halve:
        _halve(model)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights of a file of `export_onnx`, float32, by the names they have in the network.

    Raises FileNotFoundError where there is no file.
    """
    import onnx
    from onnx import numpy_helper

    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: train it with `python -m adaface.miniature.train`")
    graph = onnx.load(str(path)).graph
    arrays = {tensor.name.removesuffix(_HALF): numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:  # equal weights are stored once
        if node.op_type == "Identity" and node.input[0] in arrays:
            arrays[node.output[0]] = arrays[node.input[0]]
    return {name: torch.from_numpy(array.astype(np.float32)) for name, array in arrays.items()}


def _halve(model: onnx.ModelProto) -> None:
    """Large float32 weights become float16 ones with a Cast, which onnxruntime folds away when it loads the file."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < _WORTH_HALVING:
            continue
        name, half = tensor.name, numpy_helper.to_array(tensor).astype(np.float16)
        if not np.isfinite(half).all():
            raise ValueError(f"{name} has weights beyond the range of float16; export with halve=False")
        tensor.CopyFrom(numpy_helper.from_array(half, name + _HALF))
        casts.append(helper.make_node("Cast", [name + _HALF], [name], name=f"{name}.cast", to=TensorProto.FLOAT))
    for cast in reversed(casts):
        model.graph.node.insert(0, cast)
