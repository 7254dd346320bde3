"""Plain convolutional networks and their ONNX form, which is also the one they are loaded back from.

The graph is written node by node: half a dozen kinds of layers need no exporter, the file is the same every time, and
its initialisers carry the names of the torch parameters, so that one file serves onnxruntime and torch alike.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    import onnx

_OPSET, _IR_VERSION = 17, 8  # read by every onnxruntime since 1.14
_STEP = ".step"


class Residual(nn.Module):
    """Two 3x3 convolutions around a shortcut (He et al. 2016)."""

    def __init__(self, before: int, after: int, stride: int = 1):
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(before, after, 3, stride),
            nn.ReLU(inplace=True),
            *_convolution(after, after, 3, 1),
        )
        same = before == after and stride == 1
        self.shortcut = nn.Sequential() if same else nn.Sequential(*_convolution(before, after, 1, stride))
        self.last = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, before, H, W) -> (B, after, H / stride, W / stride)"""
        return self.last(self.body(x) + self.shortcut(x))


def convolution(before: int, after: int, kernel: int, stride: int, activation: nn.Module) -> nn.Sequential:
    """Convolution, batch normalisation, activation."""
    return nn.Sequential(*_convolution(before, after, kernel, stride), activation)


def _convolution(before: int, after: int, kernel: int, stride: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(after)


def save_onnx(net: nn.Module, path: Path, side: int) -> None:
    """Write a network that maps (B, 3, side, side) to (B, D), in eval mode, matrices in 8 bits; arithmetic is float32.

    onnxruntime multiplies the matrices out when it loads the file. The nodes are numbered; insightface takes names with
    Sub and Mul for a sign that the input is to be 0..255. Raises TypeError for a layer that is not known here.
    """
    import onnx
    from onnx import TensorProto, helper

    graph = _Graph(net)
    graph.add(net, "", "input")
    graph.nodes[-1].output[0] = "output"
    with torch.inference_mode():
        width = net.eval()(torch.zeros(1, 3, side, side)).shape[1]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            type(net).__name__.lower(),
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, side, side])],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", width])],
            graph.initialisers,
        ),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="adaface.miniature",
    )
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def load_onnx(net: nn.Module, path: Path) -> nn.Module:
    """Fill a network from a file of `save_onnx`; returns it in eval mode, frozen.

    Raises FileNotFoundError for a missing file, ValueError for one of another network.
    """
    import onnx
    from onnx import numpy_helper

    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: train it with `python -m adaface.miniature.train`")
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(str(path)).graph.initializer}
    state = {
        name: torch.from_numpy(array.astype(np.float32) * stored.get(name + _STEP, np.float32(1)))
        for name, array in stored.items()
        if not name.endswith(_STEP)
    }
    own = {name: tensor.shape for name, tensor in net.state_dict().items() if not name.endswith("num_batches_tracked")}
    if own != {name: tensor.shape for name, tensor in state.items()}:
        raise ValueError(f"{path} holds another network than {type(net).__name__}; train it anew")
    net.load_state_dict(state, strict=False)  # all but the counters of batches
    return net.eval().requires_grad_(False)


class _Graph:
    """Nodes and initialisers of a network, in the order they run."""

    def __init__(self, net: nn.Module):
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: list[onnx.TensorProto] = []
        self._state = {name: tensor.detach().float().cpu().numpy() for name, tensor in net.state_dict().items()}

    def add(self, module: nn.Module, prefix: str, x: str) -> str:
        """Append what `module` does to the value named `x`; returns the name of the result."""
        if isinstance(module, Residual):
            body = self.add(module.body, f"{prefix}body.", x)
            shortcut = self.add(module.shortcut, f"{prefix}shortcut.", x)
            return self.add(module.last, "", self._node("Add", [body, shortcut]))
        if isinstance(module, nn.Sequential):
            for name, child in module.named_children():
                x = self.add(child, f"{prefix}{name}.", x)
            return x
        if isinstance(module, nn.Conv2d):
            inputs = [x, *self._weights(prefix, "weight", "bias")]
            pads = [*module.padding, *module.padding]
            return self._node("Conv", inputs, kernel_shape=module.kernel_size, strides=module.stride, pads=pads)
        if isinstance(module, nn.BatchNorm2d):
            inputs = [x, *self._weights(prefix, "weight", "bias", "running_mean", "running_var")]
            return self._node("BatchNormalization", inputs, epsilon=module.eps)
        if isinstance(module, nn.Linear):
            return self._node("Gemm", [x, *self._weights(prefix, "weight", "bias")], transB=1)
        if isinstance(module, nn.LeakyReLU):
            return self._node("LeakyRelu", [x], alpha=module.negative_slope)
        if isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size == 1:
            return self._node("GlobalAveragePool", [x])
        for kind, operator in ((nn.ReLU, "Relu"), (nn.Flatten, "Flatten")):
            if isinstance(module, kind):
                return self._node(operator, [x])
        raise TypeError(f"no ONNX form is known for {type(module).__name__}")

    def _node(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        from onnx import helper

        name = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def _weights(self, prefix: str, *names: str) -> list[str]:
        """Initialisers for those of the parameters that there are; matrices in 8 bits, multiplied out when loaded."""
        from onnx import TensorProto, numpy_helper

        out = []
        for name in (prefix + name for name in names):
            if name not in self._state:
                continue
            array = self._state[name]
            if array.ndim == 1:
                self.initialisers.append(numpy_helper.from_array(array, name))
                out.append(name)
                continue
            steps, size = _in_8_bits(array)
            self.initialisers.append(numpy_helper.from_array(steps, name))
            self.initialisers.append(numpy_helper.from_array(size, name + _STEP))
            out.append(self._node("Mul", [self._node("Cast", [name], to=TensorProto.FLOAT), name + _STEP]))
        return out


def _in_8_bits(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8 steps and the float32 size of a step, one for each output channel (the first axis), so that the largest
    weight of a channel is 127 steps."""
    size = np.abs(array).max(axis=tuple(range(1, array.ndim)), keepdims=True).astype(np.float32) / 127
    size[size == 0] = 1.0
    return np.round(array / size).astype(np.int8), size
