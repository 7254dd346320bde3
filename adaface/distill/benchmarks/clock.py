"""Seconds that compare: on a CPU those that this process computed, which other programs hardly change."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def stopwatch(device: torch.device) -> Iterator[list[float]]:
    """What the `with` took is in the list after it: on a CPU all threads' time, on a GPU what passed until it was done."""
    gpu = device.type == "cuda"
    clock = time.perf_counter if gpu else time.process_time
    took: list[float] = []
    if gpu:
        torch.cuda.synchronize(device)
    began = clock()
    yield took
    if gpu:
        torch.cuda.synchronize(device)
    took.append(clock() - began)
