"""Rendered training data: made once by all cores, kept as .npy files, read through memory maps."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

Chunk = dict[str, np.ndarray]


def rendered_set(folder: Path, name: str, make: Callable[[int], Chunk], chunks: int) -> Chunk:
    """The concatenation of `make(0)` .. `make(chunks - 1)` as read-only memory maps, one array per key.

    `make` must be a function of a module (it runs in other processes) and take all chance from the chunk's number.
    Made in a temporary folder and renamed, so that a set is there whole or not at all. Delete the folder to make it anew.
    """
    done = folder / name
    if not done.exists():
        _build(done, make, chunks)
    return {file.stem: np.load(file, mmap_mode="r") for file in sorted(done.glob("*.npy"))}


def _build(done: Path, make: Callable[[int], Chunk], chunks: int) -> None:
    fresh = done.with_name(f"{done.name}.{os.getpid()}.tmp")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    started = time.monotonic()
    # fork would copy the locks of torch's threads in whatever state they are
    context = multiprocessing.get_context("spawn")
    rows = 0
    maps: dict[str, np.memmap] = {}
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=context) as pool:
        for index, chunk in enumerate(pool.map(make, range(chunks))):
            count = len(next(iter(chunk.values())))
            for key, part in chunk.items():
                if key not in maps:
                    # all chunks are as long as the first; the last may be shorter
                    shape = (count * chunks, *part.shape[1:])
                    maps[key] = np.lib.format.open_memmap(fresh / f"{key}.npy", "w+", part.dtype, shape)
                maps[key][rows : rows + count] = part
            rows += count
            if (index + 1) % max(1, chunks // 10) == 0:
                left = (time.monotonic() - started) / (index + 1) * (chunks - index - 1)
                print(f"rendering {done.name}: {rows} pictures, {left:.0f} s left", flush=True)
    if any(len(array) != rows for array in maps.values()):
        raise ValueError(f"every chunk of {done.name} must have as many rows as the first")
    (fresh / "about.json").write_text(json.dumps({"rows": rows, "chunks": chunks}) + "\n")
    for array in maps.values():
        array.flush()
    os.replace(fresh, done)
