"""Phase 3: from a selection to WebDataset shards, one task a shard, byte-identical whenever the inputs are equal."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import tarfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_pipeline import jpeg, measures
from data_pipeline.config import DataConfig
from data_pipeline.decode import decode_known
from data_pipeline.plan import feature_key, part_name, sample_order
from data_pipeline.schema import FEATURES, METRICS
from data_pipeline.select import Selection
from data_pipeline.storage import Storage, is_uri, read_file

# Raise it when the bytes of a shard change for equal inputs.
VERSION = 1
INPUTS = "shards/inputs.parquet"

# One row per sample, grouped by shard: everything a shard task needs to know without reading the whole selection.
_INPUTS = pa.schema(
    [
        pa.field("shard", pa.int32()),
        pa.field("key", pa.string()),
        pa.field("part", pa.int32()),  # feature file that holds the row
        pa.field("image_id", pa.string()),
        pa.field("mask_id", pa.string()),
        pa.field("path", pa.string()),
        pa.field("file", pa.string()),  # path inside the source: what is recorded, so that samples name no machine
        pa.field("source", pa.string()),
        pa.field("identity", pa.string()),
        pa.field("licence", pa.string()),
        pa.field("person_type", pa.string()),
        pa.field("identity_similarity", pa.float32()),
        pa.field("nearest_identity", pa.string()),
        pa.field("nearest_similarity", pa.float32()),
    ]
)
# What describes a sample in KEY.json and the sidecar, besides its metrics.
_PROVENANCE = [name for name in _INPUTS.names if name not in ("shard", "part", "path")]


@dataclass(frozen=True)
class ShardPlan:
    names: list[str]  # of all shards, without extension
    digests: list[str]  # of the inputs of each
    todo: list[int]
    samples: int
    samples_todo: int


def shard_name(split: str, shard: int) -> str:
    return f"shards/{split}-{shard:06d}"


def plan_shards(
    out: Storage, source: pa.Table, selection: Selection, parts: dict[str, int], config: DataConfig, analyse_hash: str
) -> ShardPlan:
    """Write what each shard is made of, remove shards that are no longer wanted, and say which are to be written.

    Args:
        parts: feature key -> number of the feature file that holds it.
    """
    out.sweep("shards")
    table = _inputs_table(source, selection, parts, config)
    n_shards = max(table["shard"].to_pylist(), default=-1) + 1
    names = [shard_name(config.split, shard) for shard in range(n_shards)]
    digests, sink = [], pa.BufferOutputStream()
    with pq.ParquetWriter(sink, _INPUTS, compression="zstd") as writer:
        bounds = np.searchsorted(table["shard"].to_numpy(), np.arange(n_shards + 1))
        for shard in range(n_shards):
            rows = table.slice(bounds[shard], bounds[shard + 1] - bounds[shard])
            writer.write_table(rows, row_group_size=max(1, len(rows)))
            digests.append(_digest(rows, config, analyse_hash))
    out.write_bytes(INPUTS, sink.getvalue())
    wanted = {f"{name}{ending}" for name in names for ending in (".tar", ".parquet", "_stats.json")} | {INPUTS}
    for name in sorted(set(out.list("shards")) - wanted, key=lambda name: not name.endswith("_stats.json")):
        out.delete(name)
    todo = [shard for shard in range(n_shards) if not _is_done(out, names[shard], digests[shard])]
    sizes = np.diff(np.searchsorted(table["shard"].to_numpy(), np.arange(n_shards + 1)))
    return ShardPlan(names, digests, todo, len(table), int(sizes[todo].sum()) if todo else 0)


def write_shard(config: DataConfig, shard: int, digest: str) -> dict[str, int]:
    """Write `NAME.tar`, `NAME.parquet` and, last, the done marker `NAME_stats.json`.

    Raises:
        OSError: a source image is gone or is not the one that was analysed.
    """
    import webdataset

    out, name = Storage(config.output), shard_name(config.split, shard)
    out.delete(f"{name}_stats.json")
    with out.open_input(INPUTS) as stream:
        inputs = pq.ParquetFile(stream).read_row_group(shard).to_pylist()
    features = _features(out, inputs)
    tar, sidecar = io.BytesIO(), []
    # Times, owners and modes are fixed, or equal samples would give different bytes.
    with webdataset.TarWriter(tar, user="", group="", mode=0o644, mtime=0, encoder=False) as writer:
        writer.tarstream.format = tarfile.USTAR_FORMAT  # the default format costs three times the time for nothing
        for item in inputs:
            feature = features[feature_key(item["image_id"], item["mask_id"])]
            description = {
                **{field: item[field] for field in _PROVENANCE},
                **{field: feature[field] for field in METRICS},
            }
            sidecar.append({**description, "status": "written"})
            writer.write(make_sample(item, feature, description, config))
    data = tar.getbuffer()
    rows = _parquet_bytes(pa.Table.from_pylist(sidecar, schema=_sidecar_schema()))
    out.write_bytes(f"{name}.tar", data, wait_for_disk=False)
    out.write_bytes(f"{name}.parquet", rows)
    out.write_json(
        f"{name}_stats.json",
        {
            "inputs": digest,
            "samples": len(inputs),
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "parquet_sha256": hashlib.sha256(rows).hexdigest(),
            "identities": len({item["identity"] for item in inputs}),
            "status": {"written": len(inputs)},
        },
    )
    return {"shard": shard, "samples": len(inputs), "bytes": len(data)}


def make_sample(
    item: dict[str, Any], feature: dict[str, Any], description: dict[str, Any], config: DataConfig
) -> dict:
    """The members of one sample, as WebDataset writes them."""
    data = read_file(item["path"], config.max_bytes)
    if hashlib.sha256(data).hexdigest() != item["image_id"]:
        raise OSError(f"{item['path']} changed since it was analysed; run the build again")
    sample: dict[str, Any] = {"__key__": item["key"], "jpg": sample_jpeg(data, feature, config)}
    if feature["embedding"] is not None:
        vector = feature["embedding"].astype(np.float16)
        sample["id.npy"] = _npy_header(len(vector)) + vector.tobytes()
    if feature["mask"] is not None:
        sample["mask.png"] = feature["mask"]
    if feature["parts"] is not None:
        sample["parts.png"] = feature["parts"]
    sample["json"] = json.dumps(description, sort_keys=True, ensure_ascii=False).encode()
    return sample


def sample_jpeg(data: bytes, feature: dict[str, Any], config: DataConfig) -> bytes:
    """The sample's picture, `config.image_size` squared.

    A photo that is such a JPEG already is passed on with its metadata removed, because encoding it again would cost
    quality and gain nothing. Everything else is cut, resized and encoded.
    """
    size = config.image_size
    fits = feature["crop"] == [0, 0, size, size] and (feature["width"], feature["height"]) == (size, size)
    if fits and feature["format"] == "JPEG" and feature["mode"] == "RGB" and feature["orientation"] == 1:
        passed_on = jpeg.without_metadata(data)
        if passed_on is not None:
            return passed_on
    x0, y0, x1, y1 = feature["crop"]
    bgr = decode_known(data, feature, config.max_pixels)[y0:y1, x0:x1]
    return jpeg.encode(measures.resize_antialiased(bgr, size))


@functools.lru_cache(maxsize=4)
def _npy_header(length: int) -> bytes:
    """What stands before the numbers in an .npy file of a float16 vector (numpy writes it anew for every array)."""
    whole = io.BytesIO()
    np.save(whole, np.zeros(length, np.float16), allow_pickle=False)
    return whole.getvalue()[: -2 * length]


def _inputs_table(source: pa.Table, selection: Selection, parts: dict[str, int], config: DataConfig) -> pa.Table:
    images = selection.images
    chosen = np.flatnonzero(images["accepted"].to_numpy(zero_copy_only=False))
    rows = images.take(pa.array(chosen)).to_pylist()
    licences = source["licence"].take(pa.array(chosen)).to_pylist()
    words = dict(
        zip(selection.identities["identity"].to_pylist(), selection.identities["person_type"].to_pylist(), strict=True)
    )
    roots = {item.label: item.path for item in config.sources}
    for row, licence in zip(rows, licences, strict=True):
        row["part"] = parts[feature_key(row["image_id"], row["mask_id"])]
        row["file"] = _inside(roots[row["source"]], row["path"])
        row["licence"] = licence
        row["person_type"] = words.get(row["identity"], "person")
    # Two files of equal bytes have keys that differ in their ending only; everything else about the order is in the
    # key's position, which `select` gave. Sorting by the plan's order again keeps this table independent of the row
    # order.
    rows.sort(key=lambda row: (row["shard"], sample_order(config.seed, row["image_id"]), row["key"]))
    return pa.Table.from_pylist(rows, schema=_INPUTS).combine_chunks()


def _inside(root: str, path: str) -> str:
    if is_uri(root):
        return path.partition("?")[0].removeprefix(root.partition("?")[0].rstrip("/") + "/")
    return os.path.relpath(path, os.path.abspath(os.path.expanduser(root))).replace(os.sep, "/")


def _digest(rows: pa.Table, config: DataConfig, analyse_hash: str) -> str:
    settings = {"version": VERSION, "analyse": analyse_hash, "image_size": config.image_size, "quality": jpeg.QUALITY}
    # Where the file lies and which part holds its features may change without changing the sample.
    content = rows.drop_columns(["path", "part"]).to_pylist()
    text = json.dumps([settings, content], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _is_done(out: Storage, name: str, digest: str) -> bool:
    marker = f"{name}_stats.json"
    if not out.exists(marker):
        return False
    try:
        stats = out.read_json(marker)
    except ValueError:  # damaged: the shard is written again
        return False
    complete = (
        out.exists(f"{name}.parquet") and out.exists(f"{name}.tar") and out.size(f"{name}.tar") == stats["bytes"]
    )
    return complete and stats["inputs"] == digest


def _features(out: Storage, inputs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Feature rows of some samples by feature key, read part by part; `embedding` is a (D,) float32 array or None."""
    wanted = {feature_key(item["image_id"], item["mask_id"]) for item in inputs}
    found: dict[str, dict[str, Any]] = {}
    for part in sorted({item["part"] for item in inputs}):
        for batch in out.iterate_table(part_name(part), columns=FEATURES.names, rows=256):
            identifiers = zip(batch["image_id"].to_pylist(), batch["mask_id"].to_pylist(), strict=True)
            keys = [feature_key(*identifier) for identifier in identifiers]
            hits = [index for index, key in enumerate(keys) if key in wanted]
            chosen = batch.take(pa.array(hits, pa.int64()))
            # A Python list of 512 numbers for each image would be the slowest step of all.
            vectors = chosen["embedding"]
            numbers = vectors.flatten().to_numpy(zero_copy_only=False)
            ends = np.cumsum([length or 0 for length in pc.list_value_length(vectors).to_pylist()])
            for index, row in enumerate(chosen.drop_columns(["embedding"]).to_pylist()):
                begin = ends[index - 1] if index else 0
                row["embedding"] = numbers[begin : ends[index]] if vectors[index].is_valid else None
                found[keys[hits[index]]] = row
    return found


def _sidecar_schema() -> pa.Schema:
    fields = [_INPUTS.field(name) for name in _PROVENANCE]
    fields += [FEATURES.field(name) for name in METRICS if name not in _PROVENANCE]
    return pa.schema([*fields, pa.field("status", pa.string())])


def _parquet_bytes(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()
