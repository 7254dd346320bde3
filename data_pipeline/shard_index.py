"""Where every sample lies inside a shard, so that one sample is read without reading the others.

An index is made from the headers of the tar in one pass that checks the shard's sha256 as well, and is kept beside the
shards under `index/`. It holds a CRC-32 of every member, so that bytes that rot later are noticed when they are read.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tarfile
import zlib
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.manifest import MANIFEST
from data_pipeline.storage import Storage

log = logging.getLogger(__name__)

# Raise it when an index of the same shard gets other content.
VERSION = 1
# The members that training reads, in the order in which they lie in a tar.
MEMBERS = ("id.npy", "jpg", "mask.png")
ABSENT = -1  # the offset of a member that a sample does not have

INDEX = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("identity", pa.string()),  # null: unknown (flat layout)
        pa.field("person_type", pa.string(), nullable=False),
        *(
            field
            for member in MEMBERS
            for field in (
                pa.field(f"{member}_offset", pa.int64(), nullable=False),
                pa.field(f"{member}_size", pa.int64(), nullable=False),
                pa.field(f"{member}_crc", pa.uint32(), nullable=False),
            )
        ),
    ]
)
_FROM_SIDECAR = ["key", "source", "identity", "person_type"]
_NO_MEMBER = (ABSENT, 0, 0)
_BLOCK = 4 << 20  # bytes read at a time while an index is made


class ShardError(ValueError):
    """A shard is missing or is not what its dataset recorded."""


def beside(dataset: Storage, cache: str | None) -> Storage:
    """Where what is derived from a dataset is kept: in its own folder, or in one of its own below `cache`."""
    if cache is None:
        return dataset
    name = hashlib.sha256(dataset.read_bytes(MANIFEST)).hexdigest()[:16]
    base, mark, query = cache.partition("?")
    return Storage(f"{base.rstrip('/')}/{name}{mark}{query}")


def check_size(dataset: Storage, shard: dict[str, Any]) -> None:
    """Look without reading whether a tar can be whole.

    Args:
        shard: its entry in dataset.json.

    Raises:
        ShardError: it is missing, or its size is not the recorded one.
    """
    name = f"shards/{shard['name']}.tar"
    try:
        size = dataset.size(name)
    except FileNotFoundError:
        raise ShardError(f"{dataset.locate(name)} is missing") from None
    if size != shard["bytes"]:
        raise ShardError(f"{dataset.locate(name)} has {size:,} bytes where {shard['bytes']:,} were written")


def read_index(dataset: Storage, side: Storage, shard: dict[str, Any]) -> pa.Table:
    """The index of a shard: the one kept in `side`, or a new one, which is kept there if the folder can be written.

    Several processes may do this at once; all write the same bytes.

    Args:
        shard: its entry in dataset.json.

    Returns:
        a table of INDEX, rows in the order of the tar.

    Raises:
        ShardError: as `make_index`.
    """
    name = f"index/{shard['name']}.parquet"
    kept = _kept(side, name, _made_of(shard))
    if kept is not None:
        return kept
    table = make_index(dataset, shard)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    try:
        side.write_bytes(name, sink.getvalue())
    except OSError as error:
        log.warning(
            "%s cannot be written (%s): the shards are read anew at every start; name a folder for it: `cache`",
            side.locate(name),
            error,
        )
    return table


def make_index(dataset: Storage, shard: dict[str, Any]) -> pa.Table:
    """Read a whole shard and its sidecar, and note where every sample lies.

    Raises:
        ShardError: a file is missing, differs from what dataset.json recorded, or the two list different samples.
    """
    check_size(dataset, shard)
    samples = sidecar(dataset, shard)
    log.info("making the index of %s", shard["name"])
    tar = _read_tar(dataset, shard)
    if list(tar) != samples["key"].to_pylist():
        raise ShardError(f"shards/{shard['name']}.tar and .parquet list different samples")
    columns: dict[str, Any] = {name: samples[name] for name in samples.column_names}
    for member in MEMBERS:
        places = [members.get(member, _NO_MEMBER) for members in tar.values()]
        for column, values in zip(("offset", "size", "crc"), zip(*places, strict=True), strict=True):
            columns[f"{member}_{column}"] = values
    return pa.table(columns, schema=INDEX.with_metadata(_made_of(shard)))


def sidecar(dataset: Storage, shard: dict[str, Any]) -> pa.Table:
    """What the sidecar of a shard tells of its samples: the columns of INDEX that come before the members.

    Raises:
        ShardError: it is missing, or is not the one that was written.
    """
    name = f"shards/{shard['name']}.parquet"
    try:
        data = dataset.read_bytes(name)
    except FileNotFoundError:
        raise ShardError(f"{dataset.locate(name)} is missing") from None
    if hashlib.sha256(data).hexdigest() != shard["parquet_sha256"]:
        raise ShardError(f"{dataset.locate(name)} has changed since it was written")
    return pq.read_table(pa.BufferReader(data), columns=_FROM_SIDECAR)


def _kept(side: Storage, name: str, made_of: dict[bytes, bytes]) -> pa.Table | None:
    if not side.exists(name):
        return None
    try:
        table = side.read_table(name)
    except (OSError, pa.ArrowInvalid):  # damaged: it is made again
        return None
    return table if table.schema.equals(INDEX) and (table.schema.metadata or {}) == made_of else None


def _made_of(shard: dict[str, Any]) -> dict[bytes, bytes]:
    """What an index belongs to, as the metadata of its schema."""
    recorded = {key: shard[key] for key in ("name", "samples", "bytes", "sha256", "parquet_sha256")}
    return {b"shard": json.dumps({"version": VERSION, **recorded}, sort_keys=True).encode()}


def _read_tar(dataset: Storage, shard: dict[str, Any]) -> dict[str, dict[str, tuple[int, int, int]]]:
    """Key -> member -> (offset, size, CRC-32)."""
    name = f"shards/{shard['name']}.tar"
    samples: dict[str, dict[str, tuple[int, int, int]]] = {}
    damage: Exception | None = None
    with dataset.open_input(name) as stream:
        hashed: Any = _Hashed(stream)  # tarfile asks for no more than `read`, its type hints do
        try:
            with tarfile.open(fileobj=hashed, mode="r|", bufsize=_BLOCK) as tar:
                for member in tar:
                    key, _, ending = member.name.partition(".")
                    members = samples.setdefault(key, {})
                    content = tar.extractfile(member) if ending in MEMBERS else None
                    if content is not None:
                        members[ending] = (member.offset_data, member.size, zlib.crc32(content.read()))
        except (tarfile.TarError, EOFError, ValueError) as error:
            damage = error
        while hashed.read(_BLOCK):  # what follows the last member belongs to the sha256, too
            pass
    if hashed.sha256.hexdigest() != shard["sha256"]:
        raise ShardError(f"{dataset.locate(name)} has changed since it was written (sha256 differs)")
    if damage is not None:
        raise ShardError(f"{dataset.locate(name)} is no tar that can be read ({damage})") from damage
    return samples


class _Hashed:
    """A stream that keeps the sha256 of what was read from it."""

    def __init__(self, stream: pa.NativeFile):
        self._stream = stream
        self.sha256 = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self.sha256.update(data)
        return data
