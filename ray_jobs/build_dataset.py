"""Folders of photos -> audited WebDataset shards. `python -m ray_jobs.build_dataset --config FILE`.

Four phases, each skipping what is done already: scan (which files, which bytes), analyse (networks), select (rules),
shard (tars). A run that was killed anywhere is continued by running it again; the result is the same, byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from data_pipeline import analyse, shards, sources
from data_pipeline.config import DataConfig
from data_pipeline.lock import LockedError, build_lock
from data_pipeline.manifest import MANIFEST, build_manifest
from data_pipeline.plan import PLAN, Plan, feature_key, make_plan
from data_pipeline.report import write_report
from data_pipeline.schema import SOURCE
from data_pipeline.select import COLUMNS, Selection, read_features, select
from data_pipeline.storage import Storage, is_uri, json_bytes
from ray_jobs.config import Config, with_absolute_paths
from ray_jobs.config_file import ConfigError, config_hash, load, resolved_yaml
from ray_jobs.preflight import Checked, check_and_list
from ray_jobs.progress import Progress, duration
from ray_jobs.runtime import joins_cluster, log_to_stdout, ray_session, run_actors, run_tasks

log = logging.getLogger(__name__)

# Raise it when the rules change their meaning: selections of older versions are then made again.
SELECT_VERSION = 1
SCAN_CACHE = "cache/scan.parquet"
_HASH_CHUNK = 256  # files read by one scan task


def run(config: Config, *, address: str | None = None) -> dict[str, Any]:
    """Build or continue a dataset.

    Args:
        config: what to build; local paths are taken relative to the working directory.
        address: of a Ray cluster; None: the cluster this process was submitted to, or a local Ray.

    Returns:
        the content of dataset.json.

    Raises:
        ValueError: bad input, before anything expensive starts; nothing is changed then.
    """
    _refuse_lost_output(config.data, address)
    checked, listing = check_and_list(config, here=not joins_cluster(address))
    out = Storage(config.data.output)
    with build_lock(out):
        return _Build(config, checked, listing, out, address).run()


class _Build:
    """One run; its attributes are what the phases hand to each other."""

    def __init__(self, config: Config, checked: Checked, listing: sources.Listing, out: Storage, address: str | None):
        self.given, self.checked, self.listing, self.out, self.address = config, checked, listing, out, address
        # Workers run in other folders, perhaps on other machines: from here on local paths are absolute.
        self.config = with_absolute_paths(config)
        self.data = self.config.data
        self.progress = Progress(out)
        self.stack = ExitStack()
        self.workers = 0
        self.seconds: dict[str, float] = {}
        self.peak_mb: dict[str, int] = {}  # most memory the driver had held by the end of each phase
        self.work = {"scanned": 0, "analysed": 0, "selected": 0, "sharded": 0}
        self.started = datetime.now(UTC)

    def run(self) -> dict[str, Any]:
        for folder in ("", "cache", "report", "runs"):
            self.out.sweep(folder)
        self.out.write_bytes("config.yaml", resolved_yaml(self.given).encode())
        try:
            with self.stack:
                manifest = self._phases()
        except BaseException as error:
            self.progress.fail(str(error) or type(error).__name__)
            raise
        counts = manifest["counts"]
        summary = (
            f"{counts['accepted']:,} of {counts['found']:,} images accepted, "
            f"{counts['identities_accepted']:,} identities, "
            f"{counts['shards']:,} shards, {counts['shard_bytes'] / 1e6:,.1f} MB"
        )
        self.progress.finish(summary)
        log.info("done in %s: %s", duration(sum(self.seconds.values())), summary)
        log.info("report: %s", self.out.locate("report/index.html"))
        return manifest

    def _phases(self) -> dict[str, Any]:
        source = self._timed("scan", self._scan)
        self.analyse_hash = analyse.analyse_hash(self.data, self.config.perception, self.checked.model_hashes)
        plan = self._timed("analyse", lambda: self._analyse(source))
        select_hash = self._select_hash(source)
        selection = self._timed("select", lambda: self._select(source, plan, select_hash))
        shard_plan = self._timed("shard", lambda: self._shard(source, selection))
        manifest = build_manifest(
            self.out,
            self.data,
            self.given.what_it_makes(),
            config_hash(self.given),
            {"analyse": self.analyse_hash, "select": select_hash},
            self.checked.models,
            dict(self.listing.ignored),
            source,
            selection,
            shard_plan,
            self.checked.id_dim or _length_of_means(selection),
        )
        changed = not self.out.exists(MANIFEST) or self.out.read_bytes(MANIFEST) != json_bytes(manifest)
        self.out.write_json(MANIFEST, manifest)
        if any(self.work.values()) or changed or not self.out.exists("report/index.html"):
            # The page shows the timings of the runs, so this run's must be on record before; without those of the
            # report.
            self._write_run()
            self.progress.start("report", 1, "pages")
            self._timed("report", lambda: write_report(self.out.uri))
        self._write_run()
        return manifest

    def _timed(self, phase: str, action: Any) -> Any:
        began = time.monotonic()
        try:
            return action()
        finally:
            self.seconds[phase] = round(time.monotonic() - began, 3)
            self.peak_mb[phase] = round(analyse.peak_memory_mb())

    def _ray(self) -> None:
        """Start or join Ray at the first phase that has work; a run without work needs none."""
        if not self.workers:
            self.stack.enter_context(ray_session(self.address))
            self.workers = 1

    def _scan(self) -> pa.Table:
        """Hash the files that are new or changed since the last run, and write source.parquet."""
        images = self.listing.images
        known: dict[str, dict[str, Any]] = {}
        cached = _read_or_none(self.out, SCAN_CACHE)
        if cached is not None:
            known = {row["stamp"]: row for row in cached.to_pylist()}
        # Files that could not be read last time are always tried again.
        todo = [image for image in images if known.get(image.stamp, {"error": True})["error"]]
        self.progress.start("scan", len(todo), message=f"{len(images):,} images found, {len(todo):,} new or changed")
        if todo:
            self._ray()
            max_bytes = self.data.max_bytes
            chunks = [
                {"images": json.dumps([asdict(image) for image in todo[start : start + _HASH_CHUNK]])}
                for start in range(0, len(todo), _HASH_CHUNK)
            ]

            def hash_chunk(row: dict[str, Any]) -> dict[str, Any]:
                images = [sources.Found(**image) for image in json.loads(row["images"])]
                return {"rows": sources.hash_images(images, max_bytes)}

            def collect(result: dict[str, Any]) -> None:
                known.update({row["stamp"]: row for row in result["rows"]})
                self.progress.advance(len(result["rows"]))

            run_tasks(hash_chunk, chunks, self.config.cluster, collect)
            self._require(all(image.stamp in known for image in todo), "scan")
            rows = [known[image.stamp] for image in images]
            self.out.write_table(SCAN_CACHE, pa.Table.from_pylist(rows, schema=sources.HASHES))
        self.work["scanned"] = len(todo)
        table = sources.source_table(images, known)
        images.clear()  # from here on the table is the list
        written = _read_or_none(self.out, "source.parquet")
        if written is None or not written.equals(table):
            self.out.write_table("source.parquet", table)
        return table

    def _analyse(self, source: pa.Table) -> Plan:
        plan = make_plan(self.out, source, self.data, self.analyse_hash)
        self.progress.start(
            "analyse",
            plan.images_todo,
            message=f"{plan.images:,} distinct images in {plan.parts:,} parts, {len(plan.todo):,} to do",
        )
        if plan.todo:
            self._ray()
            self.workers = run_actors(
                _AnalyseActor,
                [{"part": part} for part in plan.todo],
                self.config.cluster,
                lambda result: self.progress.advance(result["images"]),
                config=self.data,
                perception=self.config.perception,
                hash=self.analyse_hash,
            )
            self.work["analysed"] = self.progress.done
            self._require(self.progress.done == plan.images_todo, "analyse")
        return plan

    def _select_hash(self, source: pa.Table) -> str:
        """What a selection depends on: the features, the list of images, every rule, and the evaluation's
        identities."""
        rules = self.data.model_dump(mode="json", exclude={"output", "sources", "eval_identities"})
        digest = hashlib.sha256(json.dumps([SELECT_VERSION, self.analyse_hash, rules], sort_keys=True).encode())
        digest.update(self.checked.eval_means.tobytes())
        for column in SOURCE.names:
            digest.update(json.dumps(source[column].to_pylist()).encode())
        return digest.hexdigest()[:16]

    def _select(self, source: pa.Table, plan: Plan, select_hash: str) -> Selection:
        names = ("selection.parquet", "identities.parquet")
        images, identities = (_read_or_none(self.out, name) for name in names)
        if (
            images is not None
            and identities is not None
            and _made_under(images) == _made_under(identities) == select_hash
        ):
            self.progress.start("select", 0, message="nothing changed")
            return Selection(images, identities)
        self.progress.start("select", len(source))
        features = read_features(self.out, plan.parts, self.analyse_hash, COLUMNS)
        selection = select(source, features, self.data, self.checked.eval_means)
        for name, table in zip(names, (selection.images, selection.identities), strict=True):
            self.out.write_table(name, table.replace_schema_metadata({"select_hash": select_hash}))
        self.work["selected"] = len(source)
        return selection

    def _shard(self, source: pa.Table, selection: Selection) -> shards.ShardPlan:
        planned = self.out.read_table(PLAN, columns=["part", "image_id", "mask_id"]).to_pylist()
        parts = {feature_key(row["image_id"], row["mask_id"]): row["part"] for row in planned if row["image_id"]}
        plan = shards.plan_shards(self.out, source, selection, parts, self.data, self.analyse_hash)
        self.progress.start(
            "shard",
            plan.samples_todo,
            message=f"{plan.samples:,} samples in {len(plan.names):,} shards, {len(plan.todo):,} to write",
        )
        if plan.todo:
            self._ray()
            data, digests = self.data, plan.digests

            def write(row: dict[str, Any]) -> dict[str, Any]:
                return shards.write_shard(data, row["shard"], row["digest"])

            run_tasks(
                write,
                [{"shard": shard, "digest": digests[shard]} for shard in plan.todo],
                self.config.cluster,
                lambda result: self.progress.advance(result["samples"]),
            )
            self.work["sharded"] = self.progress.done
            self._require(self.progress.done == plan.samples_todo, "shard")
        return plan

    def _require(self, complete: bool, phase: str) -> None:
        if not complete:
            raise RuntimeError(
                f"{phase}: only {self.progress.done:,} of {self.progress.total:,} {self.progress.unit} were done, "
                "see the errors above. What is finished is kept: mend the cause and run the same command again"
            )

    def _write_run(self) -> None:
        import ray

        stamp = self.started.strftime("%Y%m%dT%H%M%S.%fZ")
        self.out.write_json(
            f"runs/{stamp}.json",
            {
                "started": self.started.isoformat(timespec="seconds"),
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds": self.seconds,
                "driver_peak_mb": self.peak_mb,
                "work": self.work,
                "workers": self.workers,
                "versions": {"python": sys.version.split()[0], "ray": ray.__version__, "numpy": np.__version__},
            },
        )


class _AnalyseActor:
    """The Ray Data face of a PartAnalyser."""

    def __init__(self, **settings: Any):
        self.analyse = analyse.PartAnalyser(**settings)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return dict(self.analyse(int(row["part"])))


def _read_or_none(out: Storage, name: str) -> pa.Table | None:
    """A table of an earlier run; None when it is not there, or damaged, which is the same as not there: it is made again."""
    if not out.exists(name):
        return None
    try:
        return out.read_table(name)
    except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
        log.warning("%s cannot be read and is made again: %s", out.locate(name), error)
        return None


def _length_of_means(selection: Selection) -> int | None:
    means = selection.identities["mean_embedding"].drop_null()
    return len(means[0]) if len(means) else None


def _made_under(table: pa.Table) -> str:
    return (table.schema.metadata or {}).get(b"select_hash", b"").decode()


def _refuse_lost_output(data: DataConfig, address: str | None) -> None:
    """In a submitted job the working directory is a temporary copy that is deleted with the job, output and all."""
    if is_uri(data.output) or os.path.isabs(os.path.expanduser(data.output)):
        return
    if os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") and joins_cluster(address):
        raise ValueError(
            f"data.output is {data.output}, relative to a submitted job's temporary folder, where it would be lost; "
            "give an absolute path on shared storage, or a URI"
        )


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 failed, 2 bad configuration or input."""
    parser = argparse.ArgumentParser(prog="python -m ray_jobs.build_dataset", description=__doc__.split("\n")[0])
    parser.add_argument("--config", required=True, help="YAML file, see configs/")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="e.g. data.min_face=64; repeatable"
    )
    parser.add_argument(
        "--address", help="Ray cluster to join; default: the one this was submitted to, or a local one"
    )
    options = parser.parse_args(arguments)
    log_to_stdout()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        run(load(options.config, options.set), address=options.address)
    except LockedError as error:  # nothing is wrong with the input: a later try may succeed
        log.error("%s", error)
        return 1
    except (ConfigError, ValueError, FileNotFoundError) as error:
        log.error("%s", error)
        return 2
    except Exception:
        log.exception("the build failed; what is finished is kept, run the same command again to go on")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
