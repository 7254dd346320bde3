"""How fast a dataset is built, against plain loops over the same work in the same run.

    python -m ray_jobs.benchmark --config configs/demo.yaml            analyse and shard, ratios to plain loops
    python -m ray_jobs.benchmark --config configs/demo.yaml --scale 1000 20000     cost per image and memory by size

Sources are photos jittered from those of the configuration, so that any number of images can be had. Ratios within one
run carry over to other machines; images per second do not.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageEnhance

from data_pipeline.sources import list_images
from data_pipeline.storage import Storage, read_file
from ray_jobs.build_dataset import _AnalyseActor, run
from ray_jobs.config import DatasetConfig
from ray_jobs.config_file import load
from ray_jobs.runtime import ray_session, run_actors

Result = TypeVar("Result")


def jitter(config: DatasetConfig, folder: Path, count: int, side: int) -> None:
    """Make `count` photos of `side` px from those of the configuration: cut, brightness, contrast and noise differ."""
    originals = []
    for image in list_images(config.data).images:
        if image.identity:
            with Image.open(io.BytesIO(read_file(image.path))) as opened:
                # A little larger than needed, so that a cut still has all its pixels.
                photo = opened.convert("RGB").resize((round(side * 1.15),) * 2, Image.Resampling.LANCZOS)
            originals.append((str(image.identity).replace("/", "-"), photo))
    rng = np.random.default_rng(0)
    for number in range(count):
        identity, photo = originals[number % len(originals)]
        left, top, right, bottom = (float(margin) for margin in rng.uniform(0, 0.06, 4))
        box = (photo.width * left, photo.height * top, photo.width * (1 - right), photo.height * (1 - bottom))
        photo = photo.resize((side, side), Image.Resampling.LANCZOS, box=box)
        photo = ImageEnhance.Contrast(ImageEnhance.Brightness(photo).enhance(rng.uniform(0.8, 1.2))).enhance(
            rng.uniform(0.85, 1.15)
        )
        noisy = np.asarray(photo, np.float32) + rng.normal(0, 3, (side, side, 1)).astype(np.float32)
        target = folder / identity / f"{number:06d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(target, quality=90)


def plain_analyse(config: DatasetConfig, paths: list[str]) -> float:
    """Seconds of a bare loop: read, decode, detect, embed, parse; nothing is measured, recorded or written."""
    import cv2

    from adaface.perception.faces import FaceAnalyser
    from adaface.perception.parsing import load_parser
    from data_pipeline.decode import decode

    settings = config.perception
    cv2.setNumThreads(settings.threads)
    faces = FaceAnalyser(settings)
    parser = settings.parser and load_parser(
        settings.parser, device=settings.device, threads=settings.threads, batch_size=settings.batch_size
    )
    size = config.data.image_size
    faces.analyse([decode(read_file(paths[0]), config.data.max_pixels)])
    began = time.perf_counter()
    for start in range(0, len(paths), settings.batch_size):
        pictures = [
            decode(read_file(path), config.data.max_pixels) for path in paths[start : start + settings.batch_size]
        ]
        faces.analyse(pictures)
        if parser:
            parser.parse(
                np.stack([cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA) for picture in pictures])
            )
    return time.perf_counter() - began


def plain_shard(config: DatasetConfig, paths: list[str], tar: str) -> float:
    """Seconds of a bare loop: decode, resize, encode, tar, by the fastest library at hand; nothing is checked."""
    import cv2
    import webdataset

    cv2.setNumThreads(1)
    size = (config.data.image_size, config.data.image_size)

    def loop() -> None:
        with open(tar, "wb") as file, webdataset.TarWriter(file, encoder=False, mtime=0) as writer:
            for number, path in enumerate(paths):
                picture = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
                assert picture is not None
                picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
                jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
                writer.write({"__key__": f"{number:08d}", "jpg": jpeg, "json": json.dumps({"path": path}).encode()})

    loop()  # as `our_shards`: files in the page cache, memory at its final size
    began = time.perf_counter()
    loop()
    return time.perf_counter() - began


def our_shards(config: DatasetConfig) -> float:
    """Seconds of `write_shard` over all shards of a finished build, in one process, without Ray."""
    import cv2

    from data_pipeline.shards import shard_name, write_shard

    cv2.setNumThreads(1)
    out = Storage(config.data.output)
    shards = out.read_json("dataset.json")["shards"]
    write_shard(config.data, 0, "warm")  # imports
    began = time.perf_counter()
    for number in range(len(shards)):
        write_shard(
            config.data, number, out.read_json(f"{shard_name(config.data.split, number)}_stats.json")["inputs"]
        )
    return time.perf_counter() - began


def in_fresh_process(function: Callable[..., Result], *arguments: Any) -> Result:
    """Run in a process of its own, so that neither run warms the other's caches or threads."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def compare(config: DatasetConfig, folder: Path, count: int, side: int, repeats: int, shard_only: bool) -> None:
    """Print ratios of the pipeline to plain loops."""
    photos = folder / f"photos-{side}"
    jitter(config, photos, count, side)
    paths = sorted(str(path) for path in photos.rglob("*.jpg"))
    config = _build_of(config, photos, folder / f"out-{side}", duplicates=False)
    run(config)
    manifest = Storage(config.data.output).read_json("dataset.json")
    print(
        f"{count} photos of {side} px, {manifest['counts']['accepted']} accepted; {os.cpu_count()} CPUs, best of {repeats}"
    )
    best: dict[str, float] = {}

    def record(name: str, rate: float) -> None:
        best[name] = max(best.get(name, 0), rate)
        print(f"  {name}: {rate:.2f} images/s", flush=True)

    from data_pipeline.analyse import analyse_hash
    from ray_jobs.preflight import check

    digest = analyse_hash(config.data, config.perception, check(config).model_hashes)
    chosen = [path for path in paths if path in _accepted(config)]
    for _ in range(repeats):
        if not shard_only:
            record("analyse, plain loop", len(paths) / in_fresh_process(plain_analyse, config, paths))
            # What two cores of this machine give at all: they may share caches, or be two threads of one core.
            with multiprocessing.get_context("spawn").Pool(2) as pool:
                seconds = pool.starmap(plain_analyse, [(config, paths[0::2]), (config, paths[1::2])], chunksize=1)
            record("analyse, two plain loops at once", len(paths) / max(seconds))
            for workers in (1, 2):
                whole, busy = _analyse_rates(config, workers, digest)
                record(f"analyse, {workers} worker(s)", whole)
                record(f"analyse, {workers} worker(s), while at work", busy)
        record(
            "shard, plain loop", len(chosen) / in_fresh_process(plain_shard, config, chosen, str(folder / "plain.tar"))
        )
        record("shard, ours", len(chosen) / in_fresh_process(our_shards, config))
    if not shard_only:
        kinds = ("plain loop", "1 worker(s)", "2 worker(s)", "two plain loops at once")
        plain, one, two, ceiling = (best[f"analyse, {kind}"] for kind in kinds)
        print(f"analyse, one worker / plain loop: {one / plain:.3f}")
        print(f"analyse, two workers / one worker: {two / one:.3f}")
        busy_one, busy_two = (best[f"analyse, {workers} worker(s), while at work"] for workers in (1, 2))
        print(f"analyse, two workers / one worker, while at work: {busy_two / busy_one:.3f}")
        print(f"analyse, two plain loops at once / one: {ceiling / plain:.3f}")
        print(f"analyse, two workers / two plain loops at once: {two / ceiling:.3f}")
    print(f"shard / plain loop: {best['shard, ours'] / best['shard, plain loop']:.3f}")


def _accepted(config: DatasetConfig) -> set[str]:
    table = Storage(config.data.output).read_table("selection.parquet", columns=["path", "accepted"])
    return {row["path"] for row in table.to_pylist() if row["accepted"]}


def _analyse_rates(config: DatasetConfig, workers: int, digest: str) -> tuple[float, float]:
    """Images per second of all workers together: from the first part's begin to the last one's end; and without the
    time that a worker waited for a part or, at the end, for the others."""
    results: list[dict[str, Any]] = []
    parts = (
        max(Storage(config.data.output).read_table("features/plan.parquet", columns=["part"])["part"].to_pylist()) + 1
    )
    cluster = config.cluster.model_copy(update={"workers": workers})
    with ray_session(None):
        run_actors(
            _AnalyseActor,
            [{"part": part} for part in range(parts)],
            cluster,
            results.append,
            config=config.data,
            perception=config.perception,
            hash=digest,
        )
    images = sum(row["images"] for row in results)
    seconds = max(row["ended"] for row in results) - min(row["began"] for row in results)
    at_work = sum(row["ended"] - row["began"] for row in results)
    return images / seconds, workers * images / at_work


def scale(config: DatasetConfig, folder: Path, sizes: list[int], side: int) -> None:
    """Print cost per image and memory of builds of several sizes."""
    print(f"photos of {side} px, {os.cpu_count()} CPUs")
    print(
        "| images | accepted | scan | analyse | select | shard | report | ms per image | driver peak MB | worker peak MB |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for count in sizes:
        photos = folder / f"photos-{count}"
        jitter(config, photos, count, side)
        sized = _build_of(config, photos, folder / f"out-{count}", duplicates=True)
        driver, worker = in_fresh_process(_measured_build, sized)
        out = Storage(sized.data.output)
        seconds = out.read_json(out.list("runs")[-1])["seconds"]
        accepted = out.read_json("dataset.json")["counts"]["accepted"]
        phases = [seconds[phase] for phase in ("scan", "analyse", "select", "shard", "report")]
        cells = [
            f"{count:,}",
            f"{accepted:,}",
            *(f"{value:.1f} s" for value in phases),
            f"{1000 * sum(phases) / count:.1f}",
        ]
        print("| " + " | ".join([*cells, f"{driver:.0f}", f"{worker:.0f}"]) + " |", flush=True)
        shutil.rmtree(photos)


def _measured_build(config: DatasetConfig) -> tuple[float, float]:
    """Peak memory of the driver, and of any worker, in MB."""
    watch = _Watch()
    run(config)
    watch.stop()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, watch.peak_mb


class _Watch(threading.Thread):
    """Looks every half second at the memory of the Ray workers below this process."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_mb = 0.0
        self._end = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._end.wait(0.5):
            for entry in Path("/proc").iterdir():
                try:
                    if entry.name.isdigit() and (entry / "cmdline").read_bytes().startswith(b"ray::"):
                        # Shared pages of libraries and of the object store are not this worker's own.
                        fields = (entry / "statm").read_text().split()
                        own = (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")
                        self.peak_mb = max(self.peak_mb, own / 2**20)
                except OSError:  # ended meanwhile
                    continue

    def stop(self) -> None:
        self._end.set()
        self.join()


def _build_of(config: DatasetConfig, photos: Path, out: Path, duplicates: bool) -> DatasetConfig:
    shutil.rmtree(out, ignore_errors=True)
    mapping = json.loads(config.model_dump_json())
    mapping["data"].update(sources=[{"path": str(photos), "name": "jittered"}], output=str(out), shard_size=1000)
    if not duplicates:  # jittered copies of one photo are alike; all of them are wanted
        mapping["data"].update(near_duplicate_bits=None, near_duplicate_similarity=None)
    return DatasetConfig.model_validate(mapping)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m ray_jobs.benchmark", description=__doc__.split("\n")[0])
    parser.add_argument("--config", required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--images", type=int, default=400, help="photos of the comparison")
    parser.add_argument("--side", type=int, default=512, help="side of the photos, px")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--shard-only", action="store_true", help="compare writing shards alone")
    parser.add_argument("--scale", type=int, nargs="+", metavar="IMAGES", help="build datasets of these sizes instead")
    options = parser.parse_args()
    config = load(DatasetConfig, options.config, options.set)
    with tempfile.TemporaryDirectory(prefix="adaface-benchmark-") as folder:
        if options.scale:
            scale(config, Path(folder), options.scale, options.side)
        else:
            compare(config, Path(folder), options.images, options.side, options.repeats, options.shard_only)
    return 0


if __name__ == "__main__":
    sys.exit(main())
