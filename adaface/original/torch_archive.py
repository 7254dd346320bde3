"""Read a checkpoint that torch.save wrote, as data: no code of the file runs, and no class that it names is imported.

The file is a zip without compression: ROOT/data.pkl is a pickle, ROOT/data/KEY the bytes of each storage. The pickle
is read by `adaface.original.inert_pickle`; tensors become `StoredTensor`s, whose bytes are read only when they are asked for.
Every size that the file declares is checked against the bytes it has.
"""

from __future__ import annotations

import math
import os
import re
import struct
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import torch
from torch import Tensor

from adaface.original.inert_objects import Global, Limits, Maker, Record, safe_key
from adaface.original.inert_pickle import read_pickle

DIRECTORY_BYTES = 1 << 23  # of the zip's table of contents; a torch file has some 100 bytes for each storage
TENSOR_ELEMENTS = 1 << 28  # of one tensor; strides let a small storage be a huge tensor
ALL_ELEMENTS = 1 << 30  # of all tensors read from one file

_DTYPES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
# An alarm, not the protection: these would stay names like all others, but a file that has them means harm.
_ALARMING = re.compile(
    r"(os|posix|nt|subprocess|_posixsubprocess|sys|pty|shutil|socket|_socket|importlib|_imp|imp|runpy|ctypes|_ctypes|"
    r"code|codeop|marshal|pickle|_pickle|cloudpickle|dill|joblib|webbrowser|pdb|bdb|timeit|signal|multiprocessing|"
    r"asyncio|urllib|http|ftplib|requests|pip|ensurepip|io|_io|atexit|torch\.(load|hub|serialization)|numpy\.load)"
    r"(\.|$)|builtins\.(?!(dict|list|set|frozenset|tuple|int|float|complex|bool|str|bytes|bytearray|object|slice|range"
    r"|getattr)$)|(.*\.)?__(?!newobj__$|newobj_ex__$|main__\.)"
)


@dataclass(frozen=True)
class Storage:
    """The bytes of one or several tensors, still in the file."""

    key: str
    dtype: torch.dtype
    elements: int


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor still in the file; it lies inside its storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class TorchArchive:
    """An open checkpoint: `root` is what was saved, `names` every class and function that it names.

    Use it in a `with` statement. Raises FileNotFoundError, and ValueError for what is no torch zip, is damaged, or has
    no reason to be as it is; the message names the file.
    """

    def __init__(self, path: str | Path, limits: Limits | None = None) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path}: there is no such file")
        limits = limits or Limits()
        self._elements_read = 0
        self._file: BinaryIO = self.path.open("rb")
        try:
            self._zip, self._members, self._top = _open_zip(self._file, os.fstat(self._file.fileno()).st_size)
            pickled = self._members[f"{self._top}/data.pkl"]
            if pickled.file_size > limits.pickle_bytes:  # before it is read
                raise ValueError(f"its pickle has {pickled.file_size:,} bytes; {limits.pickle_bytes:,} are the most")
            order = self._members.get(f"{self._top}/byteorder")
            if order is not None and (order.file_size > 16 or self._read(order) != b"little"):
                raise ValueError("its numbers are big-endian; save it again on a little-endian machine")
            found = read_pickle(self._read(pickled), _MAKERS, self._storage, limits)
            alarming = sorted(name for name in found.names if _ALARMING.match(name))
            if alarming:
                raise ValueError(
                    f"it names {', '.join(alarming[:5])}, which no checkpoint of weights needs; it is not to be "
                    "trusted (nothing of it ran)"
                )
        except (ValueError, *_ZIP_ERRORS) as error:
            self._file.close()
            raise ValueError(f"{self.path}: {_text(error)}") from error
        except BaseException:
            self._file.close()
            raise
        self.root, self.names = found.root, found.names

    def __enter__(self) -> TorchArchive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()
        self._file.close()

    def tensor(self, stored: StoredTensor) -> Tensor:
        """The values, contiguous and in memory of their own, in the dtype of the file."""
        elements = math.prod(stored.shape)
        self._elements_read += elements
        if self._elements_read > ALL_ELEMENTS:
            raise ValueError(f"{self.path}: its tensors have more than {ALL_ELEMENTS:,} values together")
        storage = stored.storage
        if not elements:
            return torch.empty(stored.shape, dtype=storage.dtype)
        try:
            data = bytearray(self._read(self._members[f"{self._top}/data/{storage.key}"]))
        except (ValueError, *_ZIP_ERRORS) as error:
            raise ValueError(f"{self.path}: {_text(error)}") from error
        if storage.dtype == torch.bool:  # a byte other than 0 and 1 is no bool
            flat = torch.frombuffer(data, dtype=torch.uint8) != 0
        else:
            flat = torch.frombuffer(data, dtype=storage.dtype)
        values = torch.empty(stored.shape, dtype=storage.dtype)
        return values.copy_(flat.as_strided(stored.shape, stored.strides, stored.offset))

    def _read(self, member: zipfile.ZipInfo) -> bytes:
        """The bytes of a member; zipfile compares the check sum."""
        return self._zip.read(member)

    def _storage(self, reference: Any) -> Storage:
        """A persistent id is ("storage", class, key, device, elements)."""
        if type(reference) is not tuple or len(reference) != 5 or reference[0] != "storage":
            raise ValueError("its pickle refers to something outside that is no storage")
        kind, key, elements = reference[1], reference[2], reference[4]
        if type(kind) is not Global or kind.name not in _DTYPES:
            raise ValueError(f"it has a storage of a kind that is not read here; known: {', '.join(_DTYPES)}")
        if type(key) is not str or type(elements) is not int or elements < 0:
            raise ValueError("it has a storage without a name or a size")
        member = self._members.get(f"{self._top}/data/{key}")
        if member is None:
            raise ValueError(f"it lacks the storage {key[:40]!a}")
        dtype = _DTYPES[kind.name]
        if elements > member.file_size or elements * dtype.itemsize != member.file_size:
            raise ValueError(f"its storage {key[:40]!a} has {member.file_size:,} bytes and declares another size")
        return Storage(key, dtype, elements)


_ZIP_ERRORS = (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, struct.error, OSError, KeyError)


def _open_zip(file: BinaryIO, size: int) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo], str]:
    """The zip, its members by name and its top folder, when it is as torch writes them."""
    start = file.read(4)
    if start[:1] == b"\x80":
        raise ValueError(
            "this is a pickle without a zip around it, as torch before 1.6 wrote; such files are not read here. If you "
            "trust its source, load it there and save it again with torch 1.6 or newer"
        )
    if start != b"PK\x03\x04":
        raise ValueError("this is no checkpoint written by torch.save (no zip file)")
    file.seek(max(0, size - 98))
    tail = file.read(98)
    end = tail[-22:]
    if len(end) < 22 or end[:4] != b"PK\x05\x06" or end[-2:] != b"\x00\x00":
        raise ValueError("the zip file is cut off or has something after its end; fetch it again")
    directory = struct.unpack("<L", end[12:16])[0]
    if len(tail) == 98 and tail[:4] == b"PK\x06\x06" and tail[56:60] == b"PK\x06\x07":  # a zip of more than 4 GiB
        directory = struct.unpack("<Q", tail[40:48])[0]
    if directory > DIRECTORY_BYTES:  # zipfile would make an object for each entry
        raise ValueError(f"its table of contents has {directory:,} bytes; {DIRECTORY_BYTES:,} are the most")
    archive = zipfile.ZipFile(file)
    members = archive.infolist()
    problems = list(_zip_problems(members, size))
    tops = {info.filename.partition("/")[0] for info in members}
    named = {info.filename: info for info in members}
    if not problems and (len(tops) != 1 or f"{next(iter(tops))}/data.pkl" not in named):
        problems.append("it has no data.pkl in one top folder, so torch.save did not write it")
    if problems:
        raise ValueError("; ".join(problems[:5]))
    return archive, named, tops.pop()


def _zip_problems(members: list[zipfile.ZipInfo], size: int) -> Iterable[str]:
    seen: set[str] = set()
    for info in members:
        shown = f"its member {info.orig_filename[:60]!a}"
        parts = info.filename.split("/")
        if (
            info.orig_filename != info.filename
            or not info.filename.isprintable()
            or re.search(r"[\\:]", info.filename)
        ):
            yield f"{shown} has a name that torch does not write"
        elif len(parts) < 2 or any(part in ("", ".", "..") for part in parts):
            yield f"{shown} points out of the archive's folder"
        if info.filename in seen:
            yield f"{shown} is there twice"
        seen.add(info.filename)
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            yield f"{shown} is compressed, which torch never does"
        if info.flag_bits & 0x1:
            yield f"{shown} is encrypted"
        if info.header_offset + info.file_size > size:
            yield f"{shown} reaches beyond the end of the file"
    if sum(info.file_size for info in members) > size:
        yield "its members overlap: together they are larger than the file"


def _ordered_dict(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    """collections.OrderedDict(); with a list of pairs as old Pythons pickled it."""
    if not arguments:
        return {}
    pairs = arguments[0]
    if len(arguments) != 1 or type(pairs) is not list or len(pairs) > 1000:
        raise ValueError("its pickle makes a dictionary from something that is no short list of pairs")
    if not all(type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs):
        raise ValueError("its pickle makes a dictionary from something that is no list of pairs")
    return {safe_key(key): value for key, value in pairs}


def _tensor(arguments: tuple[Any, ...]) -> StoredTensor:
    """torch._utils._rebuild_tensor(_v2): (storage, offset, shape, strides, requires_grad, hooks, ...)."""
    if not 4 <= len(arguments) <= 7:
        raise ValueError("its pickle makes a tensor from the wrong number of arguments")
    storage, offset, shape, strides = arguments[:4]
    if type(storage) is not Storage:
        raise ValueError("its pickle makes a tensor of something that is no storage")
    if type(shape) is not tuple or type(strides) is not tuple or len(shape) != len(strides) or len(shape) > 8:
        raise ValueError("its pickle makes a tensor without a shape")
    if not all(type(number) is int and 0 <= number < 1 << 40 for number in (offset, *shape, *strides)):
        raise ValueError("its pickle makes a tensor whose offset, shape or strides are no sizes")
    if math.prod(shape) > TENSOR_ELEMENTS:
        raise ValueError(f"it has a tensor of shape {shape}; more than {TENSOR_ELEMENTS:,} values are not read")
    last = offset + sum((extent - 1) * stride for extent, stride in zip(shape, strides, strict=True))
    if math.prod(shape) and last >= storage.elements:
        raise ValueError(f"its tensor of shape {shape} reaches beyond its storage of {storage.elements:,} values")
    return StoredTensor(storage, offset, shape, strides)


def _parameter(arguments: tuple[Any, ...]) -> StoredTensor:
    """torch._utils._rebuild_parameter: (tensor, requires_grad, hooks)."""
    if not 3 <= len(arguments) <= 4 or type(arguments[0]) is not StoredTensor:
        raise ValueError("its pickle makes a parameter of something that is no tensor")
    return arguments[0]


def _with_attributes(arguments: tuple[Any, ...]) -> StoredTensor | Record:
    """torch._tensor._rebuild_from_type_v2: (rebuilder, class, its arguments, attributes set on the tensor)."""
    if len(arguments) == 4 and all(type(part) is Global for part in arguments[:2]) and type(arguments[2]) is tuple:
        rebuild, kind = (part.name for part in arguments[:2])
        if rebuild in _TENSOR_MAKERS and kind in ("torch.Tensor", "torch.nn.parameter.Parameter"):
            return _TENSOR_MAKERS[rebuild](arguments[2])
    return Record("torch._tensor._rebuild_from_type_v2", arguments)


_TENSOR_MAKERS: dict[str, Callable[[tuple[Any, ...]], StoredTensor]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
}
_MAKERS: dict[str, Maker] = {
    **_TENSOR_MAKERS,
    "collections.OrderedDict": _ordered_dict,
    "torch._tensor._rebuild_from_type_v2": _with_attributes,
}


def _text(error: BaseException) -> str:
    """What is wrong, short: some messages of the standard library repeat what they read."""
    text = str(error)[:400]
    if isinstance(error, ValueError) and not isinstance(error, UnicodeError):
        return text
    return f"the file is damaged ({type(error).__name__}: {text})"
