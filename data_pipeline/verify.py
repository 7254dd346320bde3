"""Is a dataset whole? Reads every byte of every shard and compares it with what the build recorded."""

from __future__ import annotations

import hashlib
import io
import logging
import re
import tarfile
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.manifest import FORMAT, MANIFEST
from data_pipeline.storage import Storage

log = logging.getLogger(__name__)
_SHARD = re.compile(r"shards/(?P<split>[a-z0-9_]+)-(?P<number>\d{6})\.tar$")
_REQUIRED = {"jpg", "json"}
_RECORDED = ("samples", "bytes", "sha256", "parquet_sha256")  # by the marker of a shard and by the manifest alike


def verify(out: str) -> list[str]:
    """Check a dataset folder.

    Finds missing, truncated, changed and surplus shards, sidecars and markers, samples that are incomplete or not in
    the selection, and accepted images that are in no shard.

    Returns:
        one line for each problem, with its remedy; empty when the dataset is sound.
    """
    storage = Storage(out)
    if not storage.exists(MANIFEST):
        return [f"{storage.locate(MANIFEST)} is missing: not a dataset, or its build has not finished; run the build"]
    try:
        manifest = storage.read_json(MANIFEST)
        if manifest["format"] != FORMAT:
            return [f"{storage.locate(MANIFEST)} has format {manifest['format']!r}, this version reads {FORMAT!r}"]
        _ = [shard[name] for shard in manifest["shards"] for name in ("name", *_RECORDED)]
    except (ValueError, KeyError, TypeError) as error:
        return [f"{storage.locate(MANIFEST)} is damaged ({error!r}); delete it and run the build again"]
    problems = list(_shard_names(storage, manifest))
    keys: list[str] = []
    for number, shard in enumerate(manifest["shards"]):
        log.info("checking %s (%d of %d)", shard["name"], number + 1, len(manifest["shards"]))
        problems += _check_shard(storage, shard, keys)
    problems += _compare_with_selection(storage, keys, bool(problems))
    return problems


def _shard_names(storage: Storage, manifest: dict[str, Any]) -> Iterator[str]:
    listed = {f"shards/{shard['name']}.tar" for shard in manifest["shards"]}
    there = {name for name in storage.list("shards") if name.endswith(".tar")}
    for name in sorted(there - listed):
        yield f"{name} is not in {MANIFEST}: left by another build; run the build again, or delete it"
    numbers = sorted(int(match["number"]) for name in listed if (match := _SHARD.search(name)))
    if numbers != list(range(len(numbers))):
        yield f"shard numbers have gaps: {numbers}; run the build again"


def _check_shard(storage: Storage, shard: dict[str, Any], keys: list[str]) -> Iterator[str]:
    """Problems of one shard; adds the keys that its sidecar lists to `keys`."""
    name = f"shards/{shard['name']}"
    remedy = f"delete {name}_stats.json and run the build again"
    missing = [ending for ending in (".tar", ".parquet", "_stats.json") if not storage.exists(name + ending)]
    if missing:
        yield from (f"{name}{ending} is missing; {remedy}" for ending in missing)
        return
    try:
        stats = storage.read_json(f"{name}_stats.json")
        recorded = [stats[key] for key in _RECORDED]
    except (ValueError, KeyError, TypeError) as error:
        yield f"{name}_stats.json is damaged ({error!r}); {remedy}"
        return
    if recorded != [shard[key] for key in _RECORDED]:
        yield f"{name}_stats.json and {MANIFEST} disagree: a build was stopped in between; run the build again"
    sidecar = storage.read_bytes(f"{name}.parquet")
    listed: list[str] | None = None
    if hashlib.sha256(sidecar).hexdigest() != shard["parquet_sha256"]:
        yield f"{name}.parquet has changed since it was written; {remedy}"
    else:
        listed = pq.read_table(pa.BufferReader(sidecar), columns=["key"])["key"].to_pylist()
        keys += listed
    data = storage.read_bytes(f"{name}.tar")
    if len(data) < shard["bytes"]:
        yield f"{name}.tar is truncated: {len(data):,} of {shard['bytes']:,} bytes; {remedy}"
    elif hashlib.sha256(data).hexdigest() != shard["sha256"]:
        yield f"{name}.tar has changed since it was written (sha256 differs); {remedy}"
    else:
        yield from _check_members(name, data, listed)


def _check_members(name: str, data: bytes, listed: list[str] | None) -> Iterator[str]:
    samples: dict[str, set[str]] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            key, _, ending = member.name.partition(".")
            samples.setdefault(key, set()).add(ending)
    for key, endings in samples.items():
        if _REQUIRED - endings:
            yield f"{name}.tar: sample {key} has no {', '.join(sorted(_REQUIRED - endings))}"
    if listed is not None and list(samples) != listed:
        yield f"{name}.tar and {name}.parquet list different samples"


def _compare_with_selection(storage: Storage, keys: list[str], broken: bool) -> Iterator[str]:
    if not storage.exists("selection.parquet"):
        yield "selection.parquet is missing; run the build again"
        return
    try:
        selected = set(storage.read_table("selection.parquet", columns=["key"])["key"].drop_null().to_pylist())
    except (OSError, pa.ArrowInvalid) as error:
        yield f"selection.parquet is damaged ({error}); delete it and run the build again"
        return
    twice = len(keys) - len(set(keys))
    if twice:
        yield f"{twice} sample keys are in the shards more than once"
    if not broken and selected != set(keys):
        yield (
            f"{len(selected - set(keys))} accepted images are in no shard, "
            f"{len(set(keys) - selected)} samples are not accepted; run the build again"
        )
