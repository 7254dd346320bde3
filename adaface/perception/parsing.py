"""Face parsing: which of the 19 classes (`classes.CLASS_NAMES`) each pixel belongs to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from adaface.model_path import model_path
from adaface.perception.classes import BACKGROUND, CLASS_NAMES
from adaface.perception.config import BiSeNetConfig, OnnxParserConfig

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class FaceParser(Protocol):
    """`file` is the model file, for manifests."""

    file: Path

    def parse(self, images: np.ndarray) -> np.ndarray:
        """RGB uint8 (B, H, W, 3) -> class ids uint8 (B, H, W), 0..18. Raises ValueError for anything else."""


def load_parser(
    config: BiSeNetConfig | OnnxParserConfig, *, device: str = "auto", threads: int = 1, batch_size: int = 16
) -> FaceParser:
    """The parser of a configuration on "auto" (CUDA where there is one), "cpu" or "cuda".

    `threads` is the number of CPU threads. An ONNX parser has its own; BiSeNet shares torch's pool, which is one per
    process: it is set to `threads` while a batch is parsed on the CPU and put back afterwards.
    `batch_size` is the number of pictures per forward pass. A model of fixed batch keeps its own, and BiSeNet takes one
    at a time on the CPU: there a batch of 16 is slower and needs 0.5 GB more at the published size, and a narrow network
    at a small side gains less than a fifth.

    Raises FileNotFoundError when the model file is missing, ValueError when it does not fit or the device is absent.
    """
    file = model_path(config.file)
    if not file.is_file():
        raise FileNotFoundError(
            f"face parser {file} does not exist; set `perception.parser.file` to the {config.kind} model file"
        )
    if isinstance(config, BiSeNetConfig):
        return BiSeNetParser(file, side=config.side, device=device, threads=threads, batch_size=batch_size)
    return OnnxParser(config, device=device, threads=threads, batch_size=batch_size)


class BiSeNetParser:
    """BiSeNet in torch: float16 on CUDA, float32 on the CPU; only class ids leave the device.

    Pictures of another size are squeezed to `side` x `side` (bilinear, antialiased) and their class map is resized
    back (nearest).
    """

    def __init__(self, file: Path, *, side: int = 512, device: str = "auto", threads: int = 1, batch_size: int = 16):
        import torch

        from adaface.models.device import chosen_device
        from adaface.perception.bisenet import BiSeNet

        on_cuda = chosen_device(device, "perception.device").type == "cuda"
        self.file = file
        self._threads, self._batch, self._side = threads, batch_size if on_cuda else 1, side
        self._device = torch.device("cuda" if on_cuda else "cpu")
        self._dtype = torch.float16 if on_cuda else torch.float32
        try:
            self.model = BiSeNet.from_state_dict(_read_state_dict(file))
        except RuntimeError as error:  # torch's word for keys or shapes that do not fit
            raise ValueError(f"{file} is not a state dict of face-parsing.PyTorch's BiSeNet: {error}") from error
        self.model.to(self._device, self._dtype)
        shape = (1, 3, 1, 1)
        self._mean = torch.tensor(IMAGENET_MEAN, device=self._device).view(shape)
        self._std = torch.tensor(IMAGENET_STD, device=self._device).view(shape)

    def parse(self, images: np.ndarray) -> np.ndarray:
        _check(images)
        parts = [self._run(images[i : i + self._batch]) for i in range(0, len(images), self._batch)]
        return np.concatenate(parts) if parts else np.empty(images.shape[:3], np.uint8)

    def _run(self, images: np.ndarray) -> np.ndarray:
        import torch

        size = images.shape[1:3]
        pixels = torch.from_numpy(_resize(images, (self._side, self._side)))
        with torch.inference_mode(), self._cpu_threads():
            x = pixels.to(self._device).permute(0, 3, 1, 2).float().div_(255)
            logits = self.model(((x - self._mean) / self._std).to(self._dtype))
            # torch's argmax is three times as slow as its max on a CPU, half of the time of a narrow network
            classes = logits.max(dim=1).indices.to(torch.uint8).cpu().numpy()
        return _resize_classes(classes, size)

    @contextlib.contextmanager
    def _cpu_threads(self) -> Iterator[None]:
        import torch

        before = torch.get_num_threads()
        if self._device.type == "cuda" or before == self._threads:
            yield
            return
        torch.set_num_threads(self._threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


class OnnxParser:
    """Any ONNX segmenter of one input (N, 3, H, W) and one output (N, channels, h, w).

    A pixel is background where its best score is below the threshold, else the class of the best channel.
    A model of fixed size gets pictures squeezed to it (bilinear, antialiased); a class map of another size than the
    picture is resized to it (nearest).
    """

    def __init__(self, config: OnnxParserConfig, *, device: str = "auto", threads: int = 1, batch_size: int = 16):
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as errors

        from adaface.perception.onnx_session import batch_limit, check_device, providers, session_options

        self.file = model_path(config.file)
        try:
            session = onnxruntime.InferenceSession(
                str(self.file), sess_options=session_options(threads), providers=providers(device)
            )
        except (errors.InvalidProtobuf, errors.InvalidGraph, errors.Fail) as error:
            raise ValueError(f"face parser {self.file} is not a readable ONNX file: {error}") from error
        check_device(session, device, str(self.file))
        self._session = session
        self._input, outputs = session.get_inputs()[0], session.get_outputs()
        shape = self._input.shape
        if len(session.get_inputs()) != 1 or len(outputs) != 1 or len(shape) != 4 or shape[1] != 3:
            raise ValueError(
                f"face parser {self.file} must have one input (N, 3, H, W) and one output (N, channels, h, w); it has "
                f"inputs {[i.shape for i in session.get_inputs()]}, outputs {[o.shape for o in outputs]}"
            )
        self._limit = batch_limit(session)
        self._batch = self._limit or batch_size
        self._side = (shape[2], shape[3]) if all(isinstance(side, int) and side > 0 for side in shape[2:]) else None
        self._classes = np.array([CLASS_NAMES.index(name) for name in config.channels], dtype=np.uint8)
        self._threshold = config.threshold
        self._check_output(outputs[0].shape)
        # (x / 255 - mean) / std as one multiplication and one addition
        mean, std = np.array(config.mean, np.float64), np.array(config.std, np.float64)
        self._gain, self._shift = (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)

    def parse(self, images: np.ndarray) -> np.ndarray:
        _check(images)
        parts = [self._run(images[i : i + self._batch]) for i in range(0, len(images), self._batch)]
        return np.concatenate(parts) if parts else np.empty(images.shape[:3], np.uint8)

    def _run(self, images: np.ndarray) -> np.ndarray:
        count, size = len(images), images.shape[1:3]
        pixels = _resize(images, self._side or size).astype(np.float32) * self._gain + self._shift
        if self._limit and count < self._limit:  # fill a fixed batch up
            pixels = np.concatenate([pixels, np.repeat(pixels[-1:], self._limit - count, axis=0)])
        scores = self._session.run(None, {self._input.name: np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))})[0][
            :count
        ]
        self._check_output(scores.shape)  # what a graph declares may leave the channels open
        classes = self._classes[scores.argmax(axis=1)]
        if self._threshold is not None:
            classes[scores.max(axis=1) < self._threshold] = BACKGROUND
        return _resize_classes(classes, size)

    def _check_output(self, shape: Sequence[int | str | None]) -> None:
        if len(shape) != 4:
            raise ValueError(f"face parser {self.file} must have an output (N, channels, h, w), it has {list(shape)}")
        if isinstance(shape[1], int) and shape[1] != len(self._classes):
            raise ValueError(
                f"face parser {self.file} has {shape[1]} output channels, but `perception.parser.channels` names "
                f"{len(self._classes)}: {[CLASS_NAMES[index] for index in self._classes]}"
            )


def _check(images: np.ndarray) -> None:
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        raise ValueError(f"pictures must be RGB uint8 (B, H, W, 3), got {images.dtype} {images.shape}")


def _read_state_dict(file: Path) -> dict:
    """Tensors by name; nothing in the file is executed."""
    import pickle

    import torch

    if file.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(file)
        except SafetensorError as error:
            raise ValueError(f"face parser {file} is not a readable safetensors file: {error}") from error
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"face parser {file} is damaged or holds more than tensors, and is not opened; save its state dict alone"
        ) from error
    if not isinstance(state, dict):
        raise ValueError(f"face parser {file} holds a {type(state).__name__}, not a state dict")
    return state


def _resize(images: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """(B, H, W, 3) uint8 to (B, *size, 3). Pillow's bilinear averages over all source pixels when it shrinks."""
    from PIL import Image

    if images.shape[1:3] == tuple(size):
        return images
    wh = (size[1], size[0])
    return np.stack([np.asarray(Image.fromarray(image).resize(wh, Image.Resampling.BILINEAR)) for image in images])


def _resize_classes(classes: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Class ids (B, h, w) uint8 to (B, *size), nearest."""
    from PIL import Image

    if classes.shape[1:] == tuple(size):
        return classes
    wh = (size[1], size[0])
    return np.stack([np.asarray(Image.fromarray(map_).resize(wh, Image.Resampling.NEAREST)) for map_ in classes])
