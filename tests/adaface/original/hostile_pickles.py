"""Pickles written by hand, operation by operation, and zip files around them."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Raw(bytes):
    """Operations that leave one object on the stack; may stand anywhere in a `value`."""


def named(module: str, name: str) -> Raw:
    """GLOBAL."""
    return Raw(f"c{module}\n{name}\n".encode())


def value(thing: Any) -> Raw:
    """Operations that make a plain value."""
    if isinstance(thing, Raw):
        return thing
    if thing is None or isinstance(thing, bool):
        return Raw({None: b"N", True: b"\x88", False: b"\x89"}[thing])
    if isinstance(thing, int):
        data = thing.to_bytes(thing.bit_length() // 8 + 1, "little", signed=True)
        return Raw(b"\x8a" + bytes([len(data)]) + data)
    if isinstance(thing, float):
        return Raw(b"G" + struct.pack(">d", thing))
    if isinstance(thing, str):
        data = thing.encode()
        return Raw(b"X" + struct.pack("<I", len(data)) + data)
    if isinstance(thing, dict):
        return Raw(b"}(" + b"".join(value(part) for pair in thing.items() for part in pair) + b"u")
    opening, closing = (b"(", b"t") if isinstance(thing, tuple) else (b"](", b"e")
    return Raw(opening + b"".join(map(value, thing)) + closing)


def call(callee: Raw, *arguments: Any) -> Raw:
    """REDUCE."""
    return Raw(callee + value(tuple(arguments)) + b"R")


def with_state(target: Any, state: Any) -> Raw:
    """BUILD."""
    return Raw(value(target) + value(state) + b"b")


def pickled(root: Any, protocol: int = 4) -> bytes:
    return bytes([0x80, protocol]) + value(root) + b"."


def storage(key: str, elements: Any, kind: str = "FloatStorage") -> Raw:
    """BINPERSID, as torch writes storages."""
    return Raw(value(("storage", named("torch", kind), key, "cpu", elements)) + b"Q")


def tensor(stored: Any, offset: Any = 0, shape: Any = (2,), strides: Any = (1,)) -> Raw:
    hooks = call(named("collections", "OrderedDict"))
    return call(named("torch._utils", "_rebuild_tensor_v2"), stored, offset, shape, strides, False, hooks)


def module(name: str, **attributes: Any) -> Raw:
    """An object of a class "package.Class" with these attributes."""
    package, _, kind = name.rpartition(".")
    return with_state(Raw(named(package, kind) + b")\x81"), attributes)


def checkpoint(generator: Any, **others: Any) -> Raw:
    """The table of a checkpoint with this one generator of `z`."""
    generators = module("torch.nn.modules.container.ModuleDict", _modules={"z": generator})
    return value({"string_to_subj_basis_generator_dict": generators, **others})


def archive(path: Path, pickle: bytes, storages: Mapping[str, bytes] | None = None, top: str = "tiny") -> Path:
    """A zip as torch.save writes it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        file.writestr(f"{top}/data.pkl", pickle)
        file.writestr(f"{top}/byteorder", b"little")
        for key, data in (storages or {}).items():
            file.writestr(f"{top}/data/{key}", data)
        file.writestr(f"{top}/version", b"3\n")
    return path
