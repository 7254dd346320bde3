"""What the driver holds does not grow with the images."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from ray_jobs.config import DatasetConfig
from tests.tiny_world import make_photos

# A driver that held lists and tables of the images grew by 1,800; what is left is Ray's own, 300 up or down.
BYTES_PER_IMAGE = 800


def peaks(build: Callable[[DatasetConfig], Any], config: DatasetConfig) -> int:
    """The most that Python and Arrow held at a time in this process during a build, bytes."""
    usual = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        build(config)
        return tracemalloc.get_traced_memory()[1] + pool.max_memory()
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(usual)


def test_the_driver_holds_no_images(
    build: Callable[[DatasetConfig], Any], config: Callable[..., DatasetConfig], tmp_path: Path
) -> None:
    few, many = (make_photos(tmp_path / f"photos-{each}", people=10, each=each) for each in (6, 60))
    sizes = {"part_size": 64, "shard_size": 100}
    build(config(tmp_path / "first", source=few, **sizes))  # imports
    small = peaks(build, config(tmp_path / "few", source=few, **sizes))
    large = peaks(build, config(tmp_path / "many", source=many, **sizes))
    assert (large - small) / 540 < BYTES_PER_IMAGE, f"{small:,} bytes with 60 images, {large:,} with 600"
