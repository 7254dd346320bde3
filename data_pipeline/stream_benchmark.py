"""How fast the training stream is, against a bare loop over the same tars.

    python -m data_pipeline.stream_benchmark DATASET [--size 512] [--samples 1000] [--threads 1 2] [--cache FOLDER]

Four ways, one after the other and again, in one process: bytes of every tar in order; the same, picture and mask decoded
and resized; the stream without threads; the stream with threads. CPU time is of the whole process and says more than
wall time where a machine is shared.
"""

from __future__ import annotations

import argparse
import tarfile
import time
from collections.abc import Callable, Iterator

import numpy as np

from data_pipeline import members
from data_pipeline.augment import AugmentConfig
from data_pipeline.measures import resize_antialiased
from data_pipeline.stream import StreamConfig, TrainingStream
from data_pipeline.training_set import TrainingSet

_AHEAD = 16  # few against the samples of a measurement: what is ready at its end was not taken


def members_in_order(found: TrainingSet) -> Iterator[dict[str, bytes]]:
    """The members of every sample, tar after tar, again and again, as a loader without an index reads them."""
    while True:
        for shard in found.shards:
            with (
                shard.dataset.open_input(f"shards/{shard.name}.tar") as stream,
                tarfile.open(fileobj=stream, mode="r|", bufsize=1 << 20) as tar,
            ):
                sample: dict[str, bytes] = {}
                before = ""
                for info in tar:
                    key, _, ending = info.name.partition(".")
                    if key != before and sample:
                        yield sample
                        sample = {}
                    content = tar.extractfile(info)
                    before, sample[ending] = key, content.read() if content is not None else b""
                yield sample


def decoded(sample: dict[str, bytes], size: int) -> np.ndarray:
    """What the bare loop does with the bytes of a sample: a picture and its mask, (size, size, 4) uint8."""
    picture, mask = members.picture(sample["jpg"]), members.person_mask(sample["mask.png"])
    if picture is None or mask is None:
        raise ValueError("the dataset is damaged, or made without a parser; run `adaface verify-dataset`")
    return np.dstack([resize_antialiased(picture, size), resize_antialiased(mask, size)])


def measure(step: Callable[[], object], samples: int) -> tuple[float, float]:
    """Samples per second of wall time and of CPU time."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(samples):
        step()
    return samples / (time.perf_counter() - wall), samples / (time.process_time() - cpu)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="finished dataset folder or URI")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--cache", help="folder for the index, where the dataset cannot be written")
    options = parser.parse_args()
    augment = AugmentConfig(size=options.size)
    config = StreamConfig(datasets=[options.dataset], cache=options.cache, augment=augment, ahead=_AHEAD)
    begin = time.perf_counter()
    streams = {
        f"stream, {threads} threads" if threads else "stream, no threads": TrainingStream(
            config.model_copy(update={"threads": threads}), seed=0
        )
        for threads in (0, *options.threads)
    }
    print(f"{len(streams)} streams opened in {time.perf_counter() - begin:.2f} s")
    bare = members_in_order(next(iter(streams.values())).training_set)
    ways: dict[str, Callable[[], object]] = {
        "bare tar, bytes only": lambda: next(bare),
        "bare tar, decoded": lambda: decoded(next(bare), options.size),
        **{name: stream.__next__ for name, stream in streams.items()},
    }
    best = dict.fromkeys(ways, (0.0, 0.0))
    for _ in range(options.repeats):
        for name, way in ways.items():
            wall, cpu = measure(way, options.samples)
            best[name] = max(best[name][0], wall), max(best[name][1], cpu)
            for stream in streams.values():
                stream.close()  # or its threads would work ahead at the expense of the next way
    for name, (wall, cpu) in best.items():
        print(f"{name:24} {wall:9.0f} samples/s {cpu:9.0f} per CPU second")


if __name__ == "__main__":
    main()
