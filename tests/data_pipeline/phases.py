"""A whole dataset in one process: the phases of a build called one after the other, without a cluster."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from adaface.perception.config import PerceptionConfig
from data_pipeline.analyse import PartAnalyser, analyse_hash
from data_pipeline.config import DataConfig
from data_pipeline.manifest import MANIFEST, build_manifest
from data_pipeline.plan import PLAN, Plan, feature_key, make_plan
from data_pipeline.schema import METRICS
from data_pipeline.select import Selection, read_features, select
from data_pipeline.shards import ShardPlan, plan_shards, write_shard
from data_pipeline.sources import hash_images, list_images, source_table
from data_pipeline.storage import Storage
from tests.tiny_world import settings


@dataclass
class World:
    """A configuration, and the phases of a build of it."""

    data: DataConfig
    perception: PerceptionConfig

    @property
    def out(self) -> Storage:
        return Storage(self.data.output)

    @property
    def hash(self) -> str:
        return analyse_hash(self.data, self.perception, {})

    def scan(self) -> pa.Table:
        images = list_images(self.data).images
        hashes = {row["stamp"]: row for row in hash_images(images, self.data.max_bytes)}
        return source_table(images, hashes)

    def analyse(self, source: pa.Table) -> Plan:
        plan = make_plan(self.out, source, self.data, self.hash)
        analyser = PartAnalyser(self.data, self.perception, self.hash)
        for part in plan.todo:
            analyser(part)
        return plan

    def select(self, source: pa.Table, plan: Plan) -> Selection:
        features = read_features(self.out, plan.parts, self.hash, [*METRICS, "embedding"])
        return select(source, features, self.data, np.zeros((0, 1), np.float32))

    def plan_shards(self, source: pa.Table, selection: Selection) -> ShardPlan:
        planned = self.out.read_table(PLAN, columns=["part", "image_id", "mask_id"]).to_pylist()
        parts = {feature_key(row["image_id"], row["mask_id"]): row["part"] for row in planned if row["image_id"]}
        return plan_shards(self.out, source, selection, parts, self.data, self.hash)

    def build(self) -> dict[str, Any]:
        """All phases; returns the content of dataset.json."""
        source = self.scan()
        plan = self.analyse(source)
        selection = self.select(source, plan)
        shards = self.plan_shards(source, selection)
        for shard in shards.todo:
            write_shard(self.data, shard, shards.digests[shard])
        self.out.write_table("source.parquet", source)
        self.out.write_table("selection.parquet", selection.images)
        self.out.write_table("identities.parquet", selection.identities)
        manifest = build_manifest(self.out, self.data, {}, "c" * 16, {}, {}, {}, source, selection, shards, id_dim=192)
        self.out.write_json(MANIFEST, manifest)
        return manifest


def world(photos: Path | str, pack: Path, out: Path | str, parser: Path | None = None, **data: Any) -> World:
    """`tests.tiny_world.settings` as models; keywords are keys of `data`."""
    mapping = settings(Path("unused"), pack, out)
    mapping["data"]["sources"][0]["path"] = str(photos)
    mapping["data"].update(data)
    if parser is not None:
        mapping["perception"]["parser"] = {
            "kind": "onnx",
            "file": str(parser),
            "channels": ["skin", "hair"],
            "threshold": 0.5,
        }
    return World(DataConfig(**mapping["data"]), PerceptionConfig(**mapping["perception"]))


def tree(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Mode, time of change and sha256 of everything below a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[path.relative_to(folder).as_posix()] = (status.st_mode, status.st_mtime_ns, content)
    return found


class Killed(BaseException):
    """Stands for the end of the process, where a real one would take the tests with it."""


def kill_before_change(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """From here on the storage dies before its `step`-th change of a folder, and with every later one."""
    remaining = [step]

    def killed(action: Any) -> Any:
        def run(*arguments: Any, **keywords: Any) -> Any:
            if not remaining[0]:
                raise Killed
            remaining[0] -= 1
            return action(*arguments, **keywords)

        return run

    monkeypatch.setattr(Storage, "delete", killed(Storage.delete))
    monkeypatch.setattr(Storage, "write_bytes", killed(Storage.write_bytes))
