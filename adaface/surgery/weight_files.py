"""Weights on disk, read one tensor at a time and without running anything in them; safetensors written the same way.

A Stable Diffusion checkpoint with EMA weights is 7.7 GB: neither reading nor writing one may need that much memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import struct
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

PICKLES = (".ckpt", ".pt", ".pth", ".bin")
SAFETENSORS = ".safetensors"
# Names of the safetensors format.
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class TensorInfo:
    """What a tensor takes, without its values."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        return torch.Size(self.shape).numel() * self.dtype.itemsize


@dataclass(frozen=True)
class Weights:
    """Named tensors of one model, in one file or several."""

    files: tuple[Path, ...]
    info: Mapping[str, TensorInfo]
    read: Callable[[str], Tensor]


def open_weights(path: Path) -> Weights:
    """The tensors of a .safetensors file, of an index of several (.safetensors.index.json), or of a plain state dict.

    Pickled files are read with `torch.load(weights_only=True)`, which refuses everything but tensors and containers
    of them; of a training checkpoint only its `state_dict` is taken.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a file of weights, is damaged, or holds more than weights; with what to do.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; `adaface models` lists what can be downloaded")
    with path.open("rb") as file:
        start = file.read(len(_LFS_POINTER))
    if not start:
        raise ValueError(f"{path} is empty; download it again")
    if start == _LFS_POINTER:
        raise ValueError(f"{path} is a pointer of git-lfs, not the weights; run `git lfs pull`, or download the file")
    if path.name.endswith(f"{SAFETENSORS}.index.json"):
        return _open_index(path)
    if path.suffix == SAFETENSORS:
        return _open_safetensors(path)
    if path.suffix in PICKLES:
        return _open_pickle(path)
    raise ValueError(f"{path}: weights are {SAFETENSORS} files, or {', '.join(PICKLES)} with a plain state dict")


def write_safetensors(
    path: Path,
    info: Mapping[str, TensorInfo],
    read: Callable[[str], Tensor],
    metadata: Mapping[str, str],
) -> None:
    """Write a .safetensors file whole or not at all, with one tensor in memory at a time.

    Args:
        path: the file; replaced where it exists.
        info: shape and dtype of every tensor, to be written as they are given by `read`.
        read: the tensor of that name.
        metadata: strings for the header; "format": "pt" is added.

    Equal tensors and metadata give equal bytes.
    """
    # The order of the safetensors library: wide types first, so that every tensor lies on a multiple of its own width.
    names = sorted(info, key=lambda name: (-info[name].dtype.itemsize, name))
    header: dict[str, object] = {"__metadata__": {"format": "pt", **dict(sorted(metadata.items()))}}
    end = 0
    for name in names:
        begin, end = end, end + info[name].bytes
        header[name] = {
            "dtype": _NAMES[info[name].dtype],
            "shape": list(info[name].shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    handle, fresh = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for name in names:
                tensor = read(name)
                if (tuple(tensor.shape), tensor.dtype) != (info[name].shape, info[name].dtype):
                    raise RuntimeError(f"{name} is {tuple(tensor.shape)} {tensor.dtype}, not {info[name]}")
                file.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(fresh, 0o644)  # mkstemp gives it to nobody else
        os.replace(fresh, path)
    except BaseException:
        Path(fresh).unlink(missing_ok=True)
        raise


def sha256_of(files: Iterable[Path]) -> str:
    """SHA-256 of a file, or of the hashes of several in their order; hexadecimal."""
    hashes = []
    for path in files:
        with path.open("rb") as file:
            hashes.append(hashlib.file_digest(file, "sha256").hexdigest())
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _open_safetensors(path: Path) -> Weights:
    try:
        handle = safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a sound {SAFETENSORS} file ({error}); download it again") from error
    info = {}
    for name in handle.keys():  # noqa: SIM118 - not a mapping
        view = handle.get_slice(name)
        dtype = DTYPES.get(view.get_dtype())
        if dtype is None:
            raise ValueError(f"{path}: {name} is stored as {view.get_dtype()}, which is not supported")
        info[name] = TensorInfo(tuple(view.get_shape()), dtype)
    return Weights((path,), info, handle.get_tensor)


def _open_index(path: Path) -> Weights:
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        shards = {shard: path.parent / Path(shard).name for shard in sorted(set(owner.values()))}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not an index of weights; download it again") from error
    opened = {shard: open_weights(file) for shard, file in shards.items()}
    absent = [name for name, shard in owner.items() if name not in opened[shard].info]
    if absent:
        raise ValueError(
            f"{path} names {len(absent)} tensors that its files lack, {absent[0]} first; download it again"
        )
    info = {name: opened[shard].info[name] for name, shard in owner.items()}
    return Weights((*shards.values(), path), info, lambda name: opened[owner[name]].read(name))


def _open_pickle(path: Path) -> Weights:
    try:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # files of torch before 1.6 cannot be mapped
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} holds more than tensors, and reading it could run code; nothing of it was run. Take the "
            f"{SAFETENSORS} file of the same model (most have one: `adaface models`), or, where you trust the file, "
            "save its state dict alone: safetensors.torch.save_file(torch.load(FILE, weights_only=False)['state_dict'], OUT)"
        ) from error
    except (RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{path} is not a sound checkpoint ({error}); download it again") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a state dict")
    tensors = {name: value.detach() for name, value in content.items() if isinstance(value, Tensor)}
    if strange := [name for name, value in tensors.items() if value.dtype not in _NAMES]:
        raise ValueError(f"{path}: {strange[0]} is {tensors[strange[0]].dtype}, which {SAFETENSORS} files cannot hold")
    info = {name: TensorInfo(tuple(value.shape), value.dtype) for name, value in tensors.items()}
    return Weights((path,), info, tensors.__getitem__)
