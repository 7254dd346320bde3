"""The tables of a dataset folder as the report needs them: scalars of every image, pictures of none.

Memory: about 1 kB per image for scalars, keys and paths. Masks, class maps and embeddings are read only for the
few rows that are shown (`read_features`), one feature file at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from adaface.perception.classes import CLASS_NAMES
from data_pipeline.reasons import REASONS
from data_pipeline.storage import Storage

# Columns of the feature files that are kept for every image, as float32 with NaN for null.
FEATURE_COLUMNS = (
    "width",
    "height",
    "det_score",
    "second_face",
    "face_share",
    "face_pixels",
    "yaw",
    "pitch",
    "roll",
    "sharpness",
    "exposure",
    "clipped",
    "face_seen",
    "embedding_norm",
    "n_parts",
    "foreground",
    "mask_iou",
)
SELECTION_COLUMNS = ("identity_similarity", "nearest_similarity")


@dataclass(frozen=True)
class Tables:
    """A dataset folder, N images found. Arrays are aligned with the rows of selection.parquet."""

    storage: Storage
    summary: dict[str, Any]  # dataset.json
    config: dict[str, Any]  # config.yaml
    config_text: str
    runs: list[tuple[str, dict[str, Any]]]  # (file name, content), oldest first
    source: pa.Table  # source, path, identity, error, image_id
    selection: pa.Table  # nearest_identity, duplicate_of
    identities: pa.Table  # without the mean embeddings
    accepted: np.ndarray  # (N,) bool
    reasons: np.ndarray  # (N,) int64, bit i stands for reason_names[i]
    reason_names: list[str]
    rank: np.ndarray  # (N,) int64, place of the image_id in sorted order; equal for equal bytes
    values: dict[str, np.ndarray]  # measure -> (N,) float32, NaN: not measured
    parts_seen: np.ndarray  # (N,) int32, bit c: class c has at least one pixel; -1: not parsed
    class_share: np.ndarray  # (2, 19) float64, mean share of the pixels per class; rejected, accepted
    feature_files: list[str]
    location: np.ndarray  # (N, 2) int64, feature file and row in it; -1: none

    def __len__(self) -> int:
        return len(self.accepted)

    def has(self, reason: str) -> np.ndarray:
        """(N,) bool: images that carry the reason."""
        return (self.reasons >> self.reason_names.index(reason)) & 1 == 1

    def alone(self) -> np.ndarray:
        """(N,) bool: images with exactly one reason."""
        return (self.reasons != 0) & (self.reasons & (self.reasons - 1) == 0)

    def reasons_of(self, row: int, other_than: str) -> tuple[str, ...]:
        """The other reasons of an image."""
        bits = int(self.reasons[row])
        return tuple(name for i, name in enumerate(self.reason_names) if bits >> i & 1 and name != other_than)

    def text(self, column: str, row: int) -> str | None:
        """One cell of `source` or `selection`."""
        table = self.source if column in self.source.column_names else self.selection
        return table.column(column)[row].as_py()

    def read_features(self, rows: Sequence[int], columns: Sequence[str]) -> dict[int, dict[str, Any]]:
        """Feature columns of a few images: row -> {column: value}; rows without features are left out."""
        by_file: dict[int, list[int]] = defaultdict(list)
        for row in sorted(set(rows)):
            if self.location[row, 0] >= 0:
                by_file[int(self.location[row, 0])].append(row)
        found: dict[int, dict[str, Any]] = {}
        for file, members in sorted(by_file.items()):
            table = self.storage.read_table(self.feature_files[file], columns=list(columns))
            cells = table.take(pa.array(self.location[members, 1])).to_pylist()
            found.update(zip(members, cells, strict=True))
        return found


def load(out: str) -> Tables:
    """Read a dataset folder.

    Raises:
        FileNotFoundError: a table is missing: the build has not come that far.
        ValueError: source.parquet and selection.parquet do not belong together.
    """
    storage = Storage(out)
    needed = ("dataset.json", "config.yaml", "source.parquet", "selection.parquet", "identities.parquet")
    missing = [name for name in needed if not storage.exists(name)]
    if missing:
        raise FileNotFoundError(f"{out} has no {', '.join(missing)}: finish the build of this dataset first")
    source = storage.read_table("source.parquet", ["image_id", "mask_id", "source", "path", "identity", "error"])
    selection = storage.read_table(
        "selection.parquet",
        ["image_id", "accepted", "reasons", "nearest_identity", "duplicate_of", *SELECTION_COLUMNS],
    )
    if not source.column("image_id").equals(selection.column("image_id")):
        raise ValueError(f"source.parquet and selection.parquet of {out} list different images: run the build again")
    identities = storage.read_table("identities.parquet")
    accepted = selection.column("accepted").to_numpy().astype(bool)
    names, bits = _reason_bits(selection.column("reasons").combine_chunks())
    features = _Features(storage, _keys(source), accepted)
    values = {name: _floats(selection.column(name)) for name in SELECTION_COLUMNS} | features.values
    values["short_side"] = np.fmin(values["width"], values["height"])
    config_text = storage.read_bytes("config.yaml").decode("utf-8")
    return Tables(
        storage=storage,
        summary=storage.read_json("dataset.json"),
        config=yaml.safe_load(config_text),
        config_text=config_text,
        runs=[(name, storage.read_json(name)) for name in storage.list("runs") if name.endswith(".json")],
        source=source.drop_columns(["mask_id"]),
        selection=selection.select(["nearest_identity", "duplicate_of"]),
        identities=identities.drop_columns(["mean_embedding"]),
        accepted=accepted,
        reasons=bits,
        reason_names=names,
        rank=_dense_rank(source.column("image_id")),
        values=values,
        parts_seen=features.parts_seen,
        class_share=features.class_share,
        feature_files=features.files,
        location=features.location,
    )


@dataclass(frozen=True)
class _Part:
    """The scalars of one feature file of F rows."""

    keys: pa.Array
    values: np.ndarray  # (F, len(FEATURE_COLUMNS)) float32
    parts_seen: np.ndarray  # (F,) int32
    shares: np.ndarray  # (F, 19) float16, share of the pixels per class; NaN: not parsed


def _read_part(storage: Storage, name: str) -> _Part:
    table = storage.read_table(name, ["image_id", "mask_id", *FEATURE_COLUMNS, "part_pixels"])
    column = table.column("part_pixels").combine_chunks()
    parsed = column.is_valid().to_numpy(zero_copy_only=False)
    pixels = column.drop_null().flatten().to_numpy().reshape(-1, len(CLASS_NAMES))
    seen = np.full(len(table), -1, np.int32)
    seen[parsed] = (pixels > 0) @ (1 << np.arange(len(CLASS_NAMES), dtype=np.int32))
    shares = np.full((len(table), len(CLASS_NAMES)), np.nan, np.float16)
    shares[parsed] = pixels / np.maximum(pixels.sum(axis=1, keepdims=True), 1)
    values = [_floats(table.column(name)) for name in FEATURE_COLUMNS]
    return _Part(_keys(table), np.stack(values, axis=1), seen, shares)


class _Features:
    """One pass over the feature files, each read once and only in its scalar columns."""

    def __init__(self, storage: Storage, keys: pa.Array, accepted: np.ndarray):
        self.files = [name for name in storage.list("features") if name.startswith("features/part-")]
        # In an object store the round trips dominate, so a few files are asked for at once.
        with ThreadPoolExecutor(max_workers=4) as pool:
            files = list(pool.map(lambda name: _read_part(storage, name), self.files))
        place = _places(keys, [part.keys for part in files])
        known = place >= 0
        self.location = np.full((len(keys), 2), -1, np.int64)
        values = np.full((len(keys), len(FEATURE_COLUMNS)), np.nan, np.float32)
        self.parts_seen = np.full(len(keys), -1, np.int32)
        self.class_share = np.zeros((2, len(CLASS_NAMES)))
        if known.any():
            lengths = [len(part.keys) for part in files]
            rows = [
                np.repeat(np.arange(len(files)), lengths),
                np.concatenate([np.arange(length) for length in lengths]),
            ]
            self.location[known] = np.stack(rows, axis=1)[place[known]]
            values[known] = np.concatenate([part.values for part in files])[place[known]]
            self.parts_seen[known] = np.concatenate([part.parts_seen for part in files])[place[known]]
            shares = np.concatenate([part.shares for part in files])
            for side in (0, 1):
                chosen = shares[place[(self.parts_seen >= 0) & (accepted == bool(side))]]
                if len(chosen):
                    self.class_share[side] = chosen.mean(axis=0, dtype=np.float64)
        self.values = {name: values[:, i] for i, name in enumerate(FEATURE_COLUMNS)}


def _keys(table: pa.Table) -> pa.Array:
    """image_id and mask_id as one string, what a row of features is known by."""
    mask = pc.fill_null(table.column("mask_id"), "")
    return pc.binary_join_element_wise(table.column("image_id"), mask, "/").combine_chunks()


def _places(keys: pa.Array, files: Sequence[pa.Array]) -> np.ndarray:
    """(N,) int64: index of each key in the concatenated files, -1 where it is in none."""
    known = pa.chunked_array(files, type=pa.string()).combine_chunks() if files else pa.array([], pa.string())
    return np.asarray(pc.fill_null(pc.index_in(keys, value_set=known), -1)).astype(np.int64)


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(column.to_numpy(), dtype=np.float32)


def _reason_bits(column: pa.Array) -> tuple[list[str], np.ndarray]:
    """Reason names, the known ones first and in their order, and (N,) int64 with one bit for each."""
    flat = column.flatten()
    seen = set(pc.unique(flat).to_pylist())
    names = [*REASONS, *sorted(seen - set(REASONS))]
    which = np.asarray(pc.index_in(flat, value_set=pa.array(names, pa.string()))).astype(np.int64)
    bits = np.zeros(len(column), np.int64)
    np.bitwise_or.at(bits, np.asarray(pc.list_parent_indices(column)), np.left_shift(np.int64(1), which))
    return names, bits


def _dense_rank(ids: pa.ChunkedArray) -> np.ndarray:
    order = np.asarray(pc.sort_indices(ids)).astype(np.int64)
    rank = np.zeros(len(order), np.int64)
    if len(order):
        ordered = pc.take(ids, pa.array(order)).combine_chunks()
        changed = np.asarray(pc.not_equal(ordered.slice(1), ordered.slice(0, len(ordered) - 1)))
        rank[order] = np.concatenate([[0], np.cumsum(changed)])
    return rank
