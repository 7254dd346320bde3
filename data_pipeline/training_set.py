"""The samples of finished datasets as one table, each of which can be read by itself."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline.manifest import FORMAT, MANIFEST
from data_pipeline.shard_index import ABSENT, INDEX, MEMBERS, ShardError, beside, check_size, read_index, sidecar
from data_pipeline.storage import Storage

log = logging.getLogger(__name__)

OnBad = Literal["raise", "skip"]
_OPEN_FILES = 64  # of a local dataset, at once; object stores have no such limit
_AT_ONCE = 8  # shards that are looked at together


class BadSample(ValueError):
    """A sample that cannot be read, now or later: its file is gone or its bytes have changed.

    `kind` is one of a few words, to count by.
    """

    def __init__(self, shard: str, key: str, kind: str, detail: str = ""):
        self.shard, self.key, self.kind = shard, key, kind
        super().__init__(f"sample {key} of {shard}: {kind}" + (f" ({detail})" if detail else ""))


@dataclass(frozen=True)
class ShardPlace:
    """One shard of one of the datasets."""

    dataset: Storage
    side: Storage  # where its index and latents are
    name: str  # without folder and extension
    entry: dict[str, Any]  # in dataset.json
    lost: str | None  # why none of its samples can be read


class TrainingSet:
    """Samples, numbered 0 .. len - 1 in the order of datasets, shards and tars.

    Safe to read from several threads.
    """

    def __init__(self, shards: Sequence[ShardPlace], tables: Sequence[pa.Table], id_dim: int):
        """
        Args:
            tables: of INDEX, one for each shard.
        """
        self.shards, self.id_dim = list(shards), id_dim
        sizes = [len(table) for table in tables]
        # (N,): index into `shards`, row in that shard
        self.shard_of = np.repeat(np.arange(len(tables)), sizes)
        self.row_of = np.concatenate([np.arange(size) for size in sizes])
        table = pa.concat_tables(tables).combine_chunks()
        self.keys: pa.ChunkedArray = table["key"]
        self.sources: pa.ChunkedArray = table["source"]
        self.identities: pa.ChunkedArray = table["identity"]
        self.person_types: pa.ChunkedArray = table["person_type"]
        self._places = {
            member: tuple(table[f"{member}_{column}"].to_numpy() for column in ("offset", "size", "crc"))
            for member in MEMBERS
        }
        # Handles of local files are closed by the last who holds them; those of object stores know the size of the
        # object, which costs a request.
        local = all(shard.dataset.is_local for shard in shards)
        self._open = functools.lru_cache(maxsize=_OPEN_FILES if local else None)(self._open_shard)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def digest(self) -> str:
        """Of which samples there are: equal on every machine, wherever the datasets lie."""
        content = [[shard.name, shard.entry["sha256"]] for shard in self.shards]
        return hashlib.sha256(json.dumps([content, len(self)]).encode()).hexdigest()[:16]

    def bad(self, sample: int, kind: str, detail: str = "") -> BadSample:
        """The exception that says what is wrong with a sample."""
        shard = self.shards[self.shard_of[sample]]
        return BadSample(shard.dataset.locate(f"shards/{shard.name}.tar"), self.keys[sample].as_py(), kind, detail)

    def read(self, sample: int, members: Sequence[str]) -> dict[str, bytes]:
        """The bytes of some of the MEMBERS of a sample, in one read; those that it does not have are left out.

        Raises:
            BadSample: the shard is gone, too short, or other bytes are in their place.
            OSError: the storage does not answer; the sample may be sound.
        """
        shard = self.shards[self.shard_of[sample]]
        if shard.lost:
            raise self.bad(sample, "shard lost", shard.lost)
        places = {name: [int(column[sample]) for column in self._places[name]] for name in members}
        places = {name: place for name, place in places.items() if place[0] != ABSENT}
        if not places:
            return {}
        begin = min(offset for offset, _, _ in places.values())
        end = max(offset + size for offset, size, _ in places.values())
        try:
            data = self._open(int(self.shard_of[sample])).read_at(end - begin, begin)
        except FileNotFoundError:
            raise self.bad(sample, "shard lost", "the file is gone") from None
        content = {}
        for name, (offset, size, crc) in places.items():
            content[name] = data[offset - begin : offset - begin + size]
            if len(content[name]) != size or zlib.crc32(content[name]) != crc:
                raise self.bad(sample, "bytes changed", f"its .{name} is not what was written")
        return content

    def _open_shard(self, number: int) -> pa.NativeFile:
        shard = self.shards[number]
        return shard.dataset.open_input(f"shards/{shard.name}.tar")


def open_training_set(datasets: Sequence[str], *, cache: str | None = None, on_bad: OnBad = "raise") -> TrainingSet:
    """Open finished dataset folders, local or in an object store.

    The first time, every shard is read once to make its index (`shard_index`). Let one process do so before many start.

    Args:
        cache: folder for the indexes, where the datasets cannot be written; by default they lie beside the shards.
        on_bad: "raise": every shard must be there and whole. "skip": samples of a lost shard stay in the table, so that
            the order of draws does not depend on the damage, and reading one is a `BadSample`.

    Raises:
        ValueError: all problems at once: no dataset, not finished, damaged shards, ID embeddings of different length,
            samples that are in two datasets.
    """
    problems: list[str] = []
    shards: list[ShardPlace] = []
    dims: dict[str, int | None] = {}
    for uri in datasets:
        dataset = Storage(uri)
        try:
            manifest = _manifest(dataset)
            side = beside(dataset, cache)
        except ValueError as error:
            problems.append(str(error))
            continue
        dims[uri] = manifest["id_dim"]
        shards += [ShardPlace(dataset, side, entry["name"], entry, None) for entry in manifest["shards"]]
    if problems:
        raise ValueError("\n".join(problems))
    if None in dims.values() or len(set(dims.values())) != 1:
        raise ValueError(f"ID embeddings must all have one length, those of the datasets have {dims}")
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        looked_at = list(pool.map(functools.partial(_look_at, on_bad=on_bad), shards))
    tables = [table for _, table in looked_at]
    problems = [shard.lost for shard, _ in looked_at if shard.lost]
    if problems and on_bad == "raise":
        raise ValueError(
            "\n".join([*problems, "run `adaface verify-dataset` and the build again, or set `on_bad: skip`"])
        )
    for problem in problems:
        log.warning("%s: its samples will be skipped", problem)
    if not sum(len(table) for table in tables):
        raise ValueError(f"there is not one sample in {', '.join(datasets)}")
    found = TrainingSet([shard for shard, _ in looked_at], tables, next(iter(dims.values())) or 0)
    twice = len(found) - pc.count_distinct(found.keys).as_py()
    if twice:
        raise ValueError(
            f"{twice} samples are in more than one of {', '.join(datasets)}; build one dataset of all their sources"
        )
    return found


def _manifest(dataset: Storage) -> dict[str, Any]:
    where = dataset.locate(MANIFEST)
    if not dataset.exists(MANIFEST):
        raise ValueError(f"{where} is missing: not a dataset, or its build has not finished; run the build")
    try:
        manifest = dataset.read_json(MANIFEST)
        if manifest["format"] != FORMAT:
            raise ValueError(f"{where} has format {manifest['format']!r}, this version reads {FORMAT!r}")
        _ = manifest["id_dim"]
        _ = [shard[key] for shard in manifest["shards"] for key in ("name", "bytes", "sha256", "parquet_sha256")]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{where} is damaged ({error!r}); delete it and run the build again") from error
    return manifest


def _look_at(shard: ShardPlace, on_bad: OnBad) -> tuple[ShardPlace, pa.Table]:
    """The shard, with the reason if it is lost, and its index."""
    try:
        check_size(shard.dataset, shard.entry)
        return shard, read_index(shard.dataset, shard.side, shard.entry)
    except ShardError as error:
        lost = ShardPlace(shard.dataset, shard.side, shard.name, shard.entry, str(error))
    if on_bad == "raise":
        return lost, INDEX.empty_table()
    return lost, _index_of_lost(lost)


def _index_of_lost(shard: ShardPlace) -> pa.Table:
    """Which samples would be in a lost shard: nobody's, where its sidecar is lost, too."""
    try:
        known = sidecar(shard.dataset, shard.entry)
    except ShardError as error:
        log.warning("%s: nothing is known of its samples", error)
        return INDEX.empty_table()
    columns = {name: known[name] if name in known.column_names else pa.nulls(len(known)) for name in INDEX.names}
    for name in INDEX.names:
        if name not in known.column_names:
            value = ABSENT if name.endswith("_offset") else 0
            columns[name] = pa.array(np.full(len(known), value), INDEX.field(name).type)
    return pa.table(columns, schema=INDEX)
