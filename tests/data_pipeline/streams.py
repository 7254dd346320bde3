"""What the tests of the training stream share: streams over small datasets, samples as bytes, damage."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from pathlib import Path
from typing import Any

from data_pipeline.augment import AugmentConfig
from data_pipeline.stream import Sample, StreamConfig, TrainingStream

SEED = 7


def stream(
    *datasets: Path | str, seed: int = SEED, rank: int = 0, world_size: int = 1, block: int = 1, **config: Any
) -> TrainingStream:
    """A stream of 32 px samples without threads; keywords are those of StreamConfig."""
    settings = {"datasets": [str(dataset) for dataset in datasets], "threads": 0, "augment": {"size": 32}, **config}
    return TrainingStream(StreamConfig(**settings), seed=seed, rank=rank, world_size=world_size, block=block)


def plain(**augment: Any) -> AugmentConfig:
    """No augmentation but what is asked for."""
    return AugmentConfig(**{"size": 32, "flip": 0, "scale": None, **augment})


def as_bytes(sample: Sample) -> tuple:
    """Everything in a sample, comparable."""
    return tuple(
        value if value is None or isinstance(value, str | bool) else (value.dtype.str, value.shape, value.tobytes())
        for value in vars(sample).values()
    )


def take(source: TrainingStream, count: int) -> list[tuple]:
    return [as_bytes(next(source)) for _ in range(count)]


def hash_of(samples: list[tuple]) -> str:
    return hashlib.sha256(repr(samples).encode()).hexdigest()


def keys(source: TrainingStream, count: int) -> list[str]:
    return [next(source).key for _ in range(count)]


def copy_of(dataset: Path, folder: Path) -> Path:
    return Path(shutil.copytree(dataset, folder))


def member(dataset: Path, key: str, ending: str) -> tuple[Path, int, int]:
    """The tar that holds a member of a sample, and its offset and size there."""
    for path in sorted((dataset / "shards").glob("*.tar")):
        with tarfile.open(path) as tar:
            for info in tar:
                if info.name == f"{key}.{ending}":
                    return path, info.offset_data, info.size
    raise KeyError(f"{key}.{ending}")


def spoil(dataset: Path, key: str, ending: str) -> None:
    """Change one byte in the middle of a member."""
    path, offset, size = member(dataset, key, ending)
    with path.open("r+b") as file:
        file.seek(offset + size // 2)
        old = file.read(1)[0]
        file.seek(offset + size // 2)
        file.write(bytes([old ^ 0x55]))


def keys_of_shard(dataset: Path, shard: int) -> set[str]:
    with tarfile.open(dataset / f"shards/train-{shard:06d}.tar") as tar:
        return {name.partition(".")[0] for name in tar.getnames()}
