"""What looks at all images of a dataset at once, as steps from files to files.

Between two steps nothing but counts need be kept: a job runs each step in a worker, and its own memory does not grow
with the images. Every step may be run again at any time.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from data_pipeline.config import DataConfig
from data_pipeline.manifest import build_manifest
from data_pipeline.plan import PLAN, Plan, feature_key, make_plan
from data_pipeline.schema import SOURCE
from data_pipeline.select import COLUMNS, Selection, read_features, select
from data_pipeline.shards import ShardPlan, plan_shards
from data_pipeline.sources import FOUND, HASHES, Found, hash_images, list_images, source_table
from data_pipeline.storage import Storage

log = logging.getLogger(__name__)

# Raise it when the rules change their meaning: selections of older versions are then made again.
SELECT_VERSION = 1
SCAN_CACHE = "cache/scan.parquet"  # HASHES of every image of the last run
LISTING = "cache/listing.parquet"  # FOUND, every image of this run
UNREAD = "cache/unread.parquet"  # FOUND, those whose hash is not known; one row group is one chunk
_CHUNK = 256  # files read by one scan task
_ROWS = 4096  # images held as Python objects at a time


@dataclass(frozen=True)
class Listed:
    images: int
    unread: int  # new or changed since the last run
    ignored: dict[str, int]  # file kind -> files that are not photos

    @property
    def chunks(self) -> int:
        return -(-self.unread // _CHUNK)


def list_sources(config: DataConfig) -> Listed:
    """Write which images there are, and which of them are to be read.

    Raises:
        ValueError: as `sources.list_images`; nothing is written then.
    """
    listing, out = list_images(config), Storage(config.output)
    known = _known_hashes(out)
    # Files that could not be read last time are always tried again.
    unread = [image for image in listing.images if known.get(image.stamp, {"error": True})["error"]]
    for name in out.list("cache"):
        if name.startswith("cache/hashes-"):
            out.delete(name)
    out.write_table(LISTING, _found_table(listing.images))
    out.write_table(UNREAD, _found_table(unread), row_group_size=_CHUNK)
    return Listed(len(listing.images), len(unread), dict(listing.ignored))


def hash_chunk(config: DataConfig, chunk: int) -> int:
    """Read the files of one chunk and write their hashes; returns how many they were."""
    import pyarrow.parquet as pq

    out = Storage(config.output)
    with out.open_input(UNREAD) as stream:
        images = _found(pq.ParquetFile(stream).read_row_group(chunk))
    rows = hash_images(images, config.max_bytes)
    out.write_table(_hashes_name(chunk), pa.Table.from_pylist(rows, schema=HASHES))
    return len(rows)


def write_source(config: DataConfig, listed: Listed) -> None:
    """Put the listing and the hashes together as source.parquet; a file that would be the same is left alone."""
    out = Storage(config.output)
    known = _known_hashes(out)
    for chunk in range(listed.chunks):
        known.update({row["stamp"]: row for row in out.read_table(_hashes_name(chunk)).to_pylist()})
    hashes, tables = [HASHES.empty_table()], [SOURCE.empty_table()]
    for batch in out.iterate_table(LISTING, rows=_ROWS):
        images = _found(batch)
        hashes.append(pa.Table.from_pylist([known[image.stamp] for image in images], schema=HASHES))
        tables.append(source_table(images, known))
    if listed.unread:
        out.write_table(SCAN_CACHE, pa.concat_tables(hashes).combine_chunks())
    table = pa.concat_tables(tables).combine_chunks()
    written = _read_or_none(out, "source.parquet")
    if written is None or not written.equals(table):
        out.write_table("source.parquet", table)
    for name in (LISTING, UNREAD, *map(_hashes_name, range(listed.chunks))):
        out.delete(name)


def plan_parts(config: DataConfig, analyse_hash: str) -> Plan:
    """`plan.make_plan` for source.parquet."""
    out = Storage(config.output)
    return make_plan(out, out.read_table("source.parquet"), config, analyse_hash)


def write_selection(config: DataConfig, parts: int, analyse_hash: str, eval_means: np.ndarray) -> tuple[str, int]:
    """Write selection.parquet and identities.parquet, unless they are what the same inputs gave before.

    Returns:
        the hash of everything the selection depends on, and the number of images that rules were applied to.
    """
    out = Storage(config.output)
    source = out.read_table("source.parquet")
    select_hash = _select_hash(source, config, analyse_hash, eval_means)
    names = ("selection.parquet", "identities.parquet")
    if all(_made_under(_read_or_none(out, name)) == select_hash for name in names):
        return select_hash, 0
    # No name is given to the features: they hold the embeddings, and are to go as soon as `select` has taken them.
    selection = select(source, read_features(out, parts, analyse_hash, COLUMNS), config, eval_means)
    for name, table in zip(names, (selection.images, selection.identities), strict=True):
        out.write_table(name, table.replace_schema_metadata({"select_hash": select_hash}))
    return select_hash, len(source)


def plan_of_shards(config: DataConfig, analyse_hash: str) -> ShardPlan:
    """`shards.plan_shards` for the selection as written."""
    out = Storage(config.output)
    parts: dict[str, int] = {}
    for batch in out.iterate_table(PLAN, columns=["part", "image_id", "mask_id"], rows=_ROWS):
        planned = batch.to_pylist()
        parts.update({feature_key(row["image_id"], row["mask_id"]): row["part"] for row in planned if row["image_id"]})
    source = out.read_table("source.parquet", columns=["licence"])
    return plan_shards(out, source, _selection(out), parts, config, analyse_hash)


def describe(config: DataConfig, shards: ShardPlan, id_dim: int | None, **given: Any) -> dict[str, Any]:
    """The content of dataset.json, by `manifest.build_manifest`, to which `given` is passed on.

    Args:
        id_dim: length of the embeddings; None: to be seen from them.
    """
    out = Storage(config.output)
    selection = _selection(out)
    means = selection.identities["mean_embedding"].drop_null()
    source = out.read_table("source.parquet", columns=["licence"])
    id_dim = id_dim or (len(means[0]) if len(means) else None)
    return build_manifest(out, config, source=source, selection=selection, shards=shards, id_dim=id_dim, **given)


def _selection(out: Storage) -> Selection:
    return Selection(out.read_table("selection.parquet"), out.read_table("identities.parquet"))


def _select_hash(source: pa.Table, config: DataConfig, analyse_hash: str, eval_means: np.ndarray) -> str:
    """What a selection depends on: the features, the list of images, every rule, and the evaluation's identities."""
    rules = config.model_dump(mode="json", exclude={"output", "sources", "eval_identities"})
    digest = hashlib.sha256(json.dumps([SELECT_VERSION, analyse_hash, rules], sort_keys=True).encode())
    digest.update(eval_means.tobytes())
    for column in SOURCE.names:
        digest.update(json.dumps(source[column].to_pylist()).encode())
    return digest.hexdigest()[:16]


def _made_under(table: pa.Table | None) -> str | None:
    return None if table is None else (table.schema.metadata or {}).get(b"select_hash", b"").decode()


def _known_hashes(out: Storage) -> dict[str, dict[str, Any]]:
    cached = _read_or_none(out, SCAN_CACHE)
    return {} if cached is None else {row["stamp"]: row for row in cached.to_pylist()}


def _hashes_name(chunk: int) -> str:
    return f"cache/hashes-{chunk:05d}.parquet"


def _found_table(images: list[Found]) -> pa.Table:
    columns = {name: [getattr(image, name) for image in images] for name in FOUND.names}
    return pa.table(columns, schema=FOUND)


def _found(rows: pa.Table | pa.RecordBatch) -> list[Found]:
    return [Found(**row) for row in rows.to_pylist()]


def _read_or_none(out: Storage, name: str) -> pa.Table | None:
    """A table of an earlier run; None when it is not there, or damaged, which is the same as not there: it is made
    again."""
    if not out.exists(name):
        return None
    try:
        return out.read_table(name)
    except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
        log.warning("%s cannot be read and is made again: %s", out.locate(name), error)
        return None
