"""dataset.json: what a dataset is, in one file without times, so that equal inputs give equal bytes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from data_pipeline.config import DataConfig
from data_pipeline.reasons import REASONS
from data_pipeline.select import Selection
from data_pipeline.shards import ShardPlan
from data_pipeline.storage import Storage

FORMAT = "adaface-dataset/1"
MANIFEST = "dataset.json"


def build_manifest(
    out: Storage,
    config: DataConfig,
    settings: dict[str, Any],
    config_hash: str,
    hashes: dict[str, str],
    models: dict[str, dict[str, str]],
    ignored: dict[str, int],
    source: pa.Table,
    selection: Selection,
    shards: ShardPlan,
    id_dim: int | None,
) -> dict[str, Any]:
    """The content of dataset.json.

    Args:
        settings: the configuration as it was given, without the output folder.
        hashes: phase -> hash of everything its result depends on.
        models: role -> {"file", "sha256"}.
        ignored: file kind -> files that are not photos.
    """
    images = selection.images
    accepted = images["accepted"].to_numpy(zero_copy_only=False)
    reasons = Counter(images["reasons"].combine_chunks().flatten().to_pylist())
    per_source = Counter(images["source"].to_pylist())
    taken = images.filter(pa.array(accepted))
    accepted_of = Counter(taken["source"].to_pylist())
    stats = [{"name": name.rsplit("/", 1)[-1], **out.read_json(f"{name}_stats.json")} for name in shards.names]
    return {
        "format": FORMAT,
        "counts": {
            "found": len(images),
            "accepted": int(accepted.sum()),
            "rejected": int((~accepted).sum()),
            "identities": len(selection.identities),
            "identities_accepted": int(np.sum(selection.identities["accepted"].to_numpy() > 0)),
            "shards": len(stats),
            "shard_bytes": sum(shard["bytes"] for shard in stats),
            "ignored_files": sum(ignored.values()),
        },
        "reasons": {reason: reasons[reason] for reason in REASONS if reasons[reason]},
        "sources": [
            {
                "name": item.label,
                "layout": item.layout,
                "licence": item.licence,
                "images": per_source[item.label],
                "accepted": accepted_of[item.label],
            }
            for item in config.sources
        ],
        "ignored": dict(sorted(ignored.items())),
        "licences": dict(sorted(Counter(source["licence"].filter(pa.array(accepted)).to_pylist()).items())),
        "config": settings,
        "config_hash": config_hash,
        "hashes": hashes,
        "models": models,
        "id_dim": id_dim,
        "shards": [
            {key: shard[key] for key in ("name", "samples", "bytes", "sha256", "parquet_sha256")} for shard in stats
        ],
    }
