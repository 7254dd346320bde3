"""Which part of the feature files holds which image.

Images are dealt to parts in the seeded order in which they will later stand in the shards, so that a shard reads a
handful of neighbouring parts and not all of them. A plan only grows: photos that are added to a source make new parts
and leave the finished ones alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import pyarrow as pa

from data_pipeline.config import DataConfig
from data_pipeline.storage import Storage

PLAN = "features/plan.parquet"
PLAN_HASH = "features/plan.json"

_PLAN_COLUMNS = ["image_id", "mask_id", "path", "mask_path", "mask_is_given", "error"]


def part_name(part: int) -> str:
    return f"features/part-{part:05d}.parquet"


def sample_order(seed: int, image_id: str) -> str:
    """The sort key that shuffles a dataset for good: equal seeds give equal orders, on any machine."""
    return hashlib.sha256(f"{seed}:{image_id}".encode()).hexdigest()


def feature_key(image_id: str, mask_id: str | None) -> str:
    """What features are stored under: the same photo with another mask is another sample."""
    return image_id if mask_id is None else f"{image_id}+{mask_id}"


@dataclass(frozen=True)
class Plan:
    parts: int
    todo: list[int]  # parts without a feature file
    images: int
    images_todo: int


def make_plan(out: Storage, source: pa.Table, config: DataConfig, analyse_hash: str) -> Plan:
    """Bring the plan in line with the sources, and say what is left to do.

    A plan made under another `analyse_hash` is discarded together with its feature files.
    """
    out.sweep("features")
    old = _known_plan(out, analyse_hash)
    done = {name for name in out.list("features") if name.startswith("features/part-")}
    wanted: dict[str, dict] = {}
    for row in source.select(_PLAN_COLUMNS).to_pylist():
        wanted.setdefault(feature_key(row["image_id"], row["mask_id"]), row)

    parts: list[list[dict]] = []
    planned: set[str] = set()
    for number, rows in enumerate(old):
        if part_name(number) not in done:
            # Not analysed yet: the files may have moved, or gone, since the plan was made.
            rows = [wanted[key] for row in rows if (key := feature_key(row["image_id"], row["mask_id"])) in wanted]
        parts.append(rows)
        planned.update(feature_key(row["image_id"], row["mask_id"]) for row in rows)
    new = [row for key, row in wanted.items() if key not in planned]
    new.sort(key=lambda row: (sample_order(config.seed, row["image_id"]), row["mask_id"] or ""))
    # Even parts, so that the last worker does not sit over a full one when the others are done.
    count = -(-len(new) // config.part_size)
    parts += [new[index * len(new) // count : (index + 1) * len(new) // count] for index in range(count)]

    _write_plan(out, parts, analyse_hash)
    todo = [number for number in range(len(parts)) if part_name(number) not in done]
    return Plan(
        parts=len(parts),
        todo=todo,
        images=sum(len(rows) for rows in parts),
        images_todo=sum(len(parts[number]) for number in todo),
    )


def read_part_plan(out: Storage, part: int) -> list[dict]:
    """The rows of one part, without reading those of the others."""
    import pyarrow.parquet as pq

    with out.open_input(PLAN) as stream:
        rows = pq.ParquetFile(stream).read_row_group(part).to_pylist()
    return [row for row in rows if row["image_id"]]


def _known_plan(out: Storage, analyse_hash: str) -> list[list[dict]]:
    if out.exists(PLAN) and _hash_of_plan(out) == analyse_hash:
        parts: dict[int, list[dict]] = {}
        for row in out.read_table(PLAN).to_pylist():
            rows = parts.setdefault(row.pop("part"), [])
            if row["image_id"]:
                rows.append(row)
        return [parts[number] for number in sorted(parts)]
    # The hash goes first: a kill in between must not leave old feature files under a new hash.
    out.delete(PLAN_HASH)
    for name in out.list("features"):
        out.delete(name)
    return []


def _hash_of_plan(out: Storage) -> str | None:
    """None where there is no plan, or a damaged one: then nobody knows what the feature files were made under."""
    try:
        return out.read_json(PLAN_HASH)["analyse_hash"] if out.exists(PLAN_HASH) else None
    except (ValueError, KeyError, TypeError):
        return None


def _write_plan(out: Storage, parts: list[list[dict]], analyse_hash: str) -> None:
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            pa.field("part", pa.int32()),
            pa.field("image_id", pa.string()),
            pa.field("mask_id", pa.string()),
            pa.field("path", pa.string()),
            pa.field("mask_path", pa.string()),
            pa.field("mask_is_given", pa.bool_()),
            pa.field("error", pa.string()),
        ]
    )
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for number, rows in enumerate(parts):
            # A part that lost all its images keeps its number through one empty row, so that parts stay dense.
            rows = rows or [{"image_id": None}]
            writer.write_table(pa.Table.from_pylist([{**row, "part": number} for row in rows], schema=schema))
    out.write_bytes(PLAN, sink.getvalue())
    out.write_json(PLAN_HASH, {"analyse_hash": analyse_hash})
