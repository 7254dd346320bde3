"""Folders of photos -> audited WebDataset shards. `python -m ray_jobs.build_dataset --config FILE`.

Four phases, each skipping what is done already: scan (which files, which bytes), analyse (networks), select (rules),
shard (tars). A run that was killed anywhere is continued by running it again; the result is the same, byte for byte.
"""

from __future__ import annotations

import logging
import sys
import time
from datetime import UTC, datetime
from typing import Any

import numpy as np

from data_pipeline import analyse, steps
from data_pipeline.lock import output_lock
from data_pipeline.manifest import MANIFEST
from data_pipeline.plan import Plan
from data_pipeline.report import write_report
from data_pipeline.shards import ShardPlan, write_shard
from data_pipeline.storage import Storage, json_bytes
from ray_jobs.config import DatasetConfig, with_absolute_paths
from ray_jobs.config_file import config_hash, resolved_yaml
from ray_jobs.job_main import job_parser, run_job_main
from ray_jobs.lost_output import refuse_lost_output
from ray_jobs.preflight import Checked, check_all
from ray_jobs.progress import Progress, duration
from ray_jobs.runtime import in_worker, joins_cluster, ray_session, run_actors, run_tasks

log = logging.getLogger(__name__)


def run(config: DatasetConfig, *, address: str | None = None) -> dict[str, Any]:
    """Build or continue a dataset.

    Args:
        config: what to build; local paths are taken relative to the working directory.
        address: of a Ray cluster; None: the cluster this process was submitted to, or a local Ray.

    Returns:
        the content of dataset.json.

    Raises:
        ValueError: bad input, before anything expensive starts; nothing is changed then. Only that an object store holds
            no image shows later, when it is listed.
    """
    refuse_lost_output("data.output", config.data.output, address)
    checked = check_all(config, here=not joins_cluster(address))
    out = Storage(config.data.output)
    with output_lock(out):
        return _Build(config, checked, out, address).run()


class _Build:
    """One run; its attributes are what the phases hand to each other: counts and hashes, nothing by the image."""

    def __init__(self, config: DatasetConfig, checked: Checked, out: Storage, address: str | None):
        self.given, self.checked, self.out, self.address = config, checked, out, address
        # Workers run in other folders, perhaps on other machines: from here on local paths are absolute.
        self.config = with_absolute_paths(config)
        self.data = self.config.data
        self.progress = Progress(out)
        self.workers = 0  # that analysed
        self.seconds: dict[str, float] = {}
        self.peak_mb: dict[str, int] = {}  # most memory the driver had held by the end of each phase
        self.work = {"scanned": 0, "analysed": 0, "selected": 0, "sharded": 0}
        self.started = datetime.now(UTC)

    def run(self) -> dict[str, Any]:
        for folder in ("", "cache", "report", "runs"):
            self.out.sweep(folder)
        self.out.write_bytes("config.yaml", resolved_yaml(self.given).encode())
        try:
            with ray_session(self.address):
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
        listed = self._timed("scan", self._scan)
        self.analyse_hash = analyse.analyse_hash(self.data, self.config.perception, self.checked.model_hashes)
        plan = self._timed("analyse", self._analyse)
        select_hash = self._timed("select", lambda: self._select(listed, plan))
        shard_plan = self._timed("shard", self._shard)
        manifest = in_worker(
            steps.describe,
            self.data,
            shard_plan,
            self.checked.id_dim,
            settings=self.given.what_it_makes(),
            config_hash=config_hash(self.given),
            hashes={"analyse": self.analyse_hash, "select": select_hash},
            models=self.checked.models,
            ignored=listed.ignored,
        )
        changed = not self.out.exists(MANIFEST) or self.out.read_bytes(MANIFEST) != json_bytes(manifest)
        self.out.write_json(MANIFEST, manifest)
        if any(self.work.values()) or changed or not self.out.exists("report/index.html"):
            # The page shows the timings of the runs, so this run's must be on record before; without those of the
            # report.
            self._write_run()
            self.progress.start("report", 1, "pages")
            self._timed("report", lambda: in_worker(write_report, self.out.uri))
        self._write_run()
        return manifest

    def _timed(self, phase: str, action: Any) -> Any:
        began = time.monotonic()
        try:
            return action()
        finally:
            self.seconds[phase] = round(time.monotonic() - began, 3)
            self.peak_mb[phase] = round(analyse.peak_memory_mb())

    def _scan(self) -> steps.Listed:
        """Hash the files that are new or changed since the last run, and write source.parquet."""
        self.progress.start("scan", 0, message="listing the sources")
        listed = in_worker(steps.list_sources, self.data)
        message = f"{listed.images:,} images found, {listed.unread:,} new or changed"
        self.progress.start("scan", listed.unread, message=message)
        if listed.unread:
            data = self.data

            def hash_chunk(row: dict[str, Any]) -> dict[str, Any]:
                return {"images": steps.hash_chunk(data, row["chunk"])}

            run_tasks(
                hash_chunk,
                [{"chunk": chunk} for chunk in range(listed.chunks)],
                self.config.cluster,
                lambda result: self.progress.advance(result["images"]),
            )
            self._require(self.progress.done == listed.unread, "scan")
        self.work["scanned"] = listed.unread
        in_worker(steps.write_source, self.data, listed)
        return listed

    def _analyse(self) -> Plan:
        plan = in_worker(steps.plan_parts, self.data, self.analyse_hash)
        self.progress.start(
            "analyse",
            plan.images_todo,
            message=f"{plan.images:,} distinct images in {plan.parts:,} parts, {len(plan.todo):,} to do",
        )
        if plan.todo:
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

    def _select(self, listed: steps.Listed, plan: Plan) -> str:
        self.progress.start("select", listed.images)
        select_hash, self.work["selected"] = in_worker(
            steps.write_selection, self.data, plan.parts, self.analyse_hash, self.checked.eval_means
        )
        return select_hash

    def _shard(self) -> ShardPlan:
        plan = in_worker(steps.plan_of_shards, self.data, self.analyse_hash)
        self.progress.start(
            "shard",
            plan.samples_todo,
            message=f"{plan.samples:,} samples in {len(plan.names):,} shards, {len(plan.todo):,} to write",
        )
        if plan.todo:
            data, digests = self.data, plan.digests

            def write(row: dict[str, Any]) -> dict[str, Any]:
                return write_shard(data, row["shard"], row["digest"])

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


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 failed, 2 bad configuration or input."""
    options = job_parser("ray_jobs.build_dataset", str(__doc__), DatasetConfig).parse_args(arguments)
    return run_job_main(options, DatasetConfig, run, kept="what is finished is")


if __name__ == "__main__":
    sys.exit(main())
