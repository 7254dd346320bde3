"""How ONNX models are run: device, threads, and no chatter."""

from __future__ import annotations

import logging
from typing import Any

import onnxruntime

log = logging.getLogger(__name__)

_ERROR = 3  # onnxruntime's severity; below it come remarks on shapes and devices that nobody can act on
onnxruntime.set_default_logger_severity(_ERROR)


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Options of a session that uses `threads` CPU threads inside an operator and runs one operator at a time."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERROR
    return options


def providers(device: str) -> list[str]:
    """Execution providers for `device`: "auto" takes CUDA where onnxruntime has it, "cuda" insists, "cpu" never does.

    Raises ValueError for "cuda" where onnxruntime has no CUDA provider.
    """
    available = onnxruntime.get_available_providers()
    has_cuda = "CUDAExecutionProvider" in available
    if device == "cuda" and not has_cuda:
        raise ValueError(
            f"device is `cuda`, but this onnxruntime offers only {', '.join(available)}; install onnxruntime-gpu in "
            "place of onnxruntime (never both), or set `perception.device` to `auto` or `cpu`"
        )
    if device != "cpu" and has_cuda:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]
    return ["CPUExecutionProvider"]


def check_device(session: Any, device: str, what: str) -> None:
    """onnxruntime takes the CPU in silence when the CUDA libraries do not load: raise for "cuda", else warn."""
    if "CUDAExecutionProvider" not in providers(device) or "CUDAExecutionProvider" in session.get_providers():
        return
    message = f"{what}: onnxruntime could not start CUDA and took the CPU; are its CUDA and cuDNN versions installed?"
    if device == "cuda":
        raise ValueError(f"{message} Or set `perception.device` to `cpu`")
    log.warning(message)


def batch_limit(session: Any) -> int | None:
    """The number of rows that a model's first input is fixed to, None where it takes any."""
    first = session.get_inputs()[0].shape[0]
    return first if isinstance(first, int) and first > 0 else None
