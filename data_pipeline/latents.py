"""What a VAE makes of every sample, as it is and mirrored, kept beside the shards so that training need not encode.

`latents/NAME/train-000000.npy` holds float16 (N, 2, ...): rows as in the shard; 0: the picture, 1: its mirror image.
`train-000000.json`, written last, says of which shard and size it is, with a CRC-32 of each. NAME tells encoders apart.
"""

from __future__ import annotations

import functools
import hashlib
import io
import logging
import re
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa

from data_pipeline import members
from data_pipeline.measures import resize_antialiased
from data_pipeline.training_set import ShardPlace, TrainingSet, open_training_set

log = logging.getLogger(__name__)

FORMAT = "adaface-latents/1"
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_FLIPS = 2
_OPEN_FILES = 64  # of a local folder, at once
_AT_ONCE = 8  # shards that are looked at together

# (B, S, S, 3) uint8 RGB -> (B, ...) floating, on the CPU
Encode = Callable[[np.ndarray], Any]


def write_latents(
    datasets: Sequence[str], name: str, encode: Encode, *, size: int, batch_size: int = 8, cache: str | None = None
) -> int:
    """Encode every sample of finished datasets, all of its picture; what is there already stays.

    Args:
        name: of this encoder and of whatever else its output depends on, such as a hash of its weights.
        encode: (B, size, size, 3) uint8 RGB -> (B, ...) floating numbers, one row for each picture. What they are is up
            to who will read them: means, or means and deviations. Equal pictures should give equal rows.
        size: side of the pictures, px.
        batch_size: pictures for `encode` at a time, mirror images included; 2 or more.
        cache: as in `open_training_set`.

    Returns:
        samples that were encoded.

    Raises:
        ValueError: a name that is none, a damaged dataset, numbers that are not finite in half precision.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name latents; use letters, digits, dots, dashes and underscores")
    found, encoded = open_training_set(datasets, cache=cache), 0
    for number, shard in enumerate(found.shards):
        if _problem(shard, name, size, _marker(shard, name)) is None:
            continue
        log.info("encoding %s (%d of %d)", shard.name, number + 1, len(found.shards))
        samples = np.flatnonzero(found.shard_of == number)
        _write(shard, name, _encoded(found, samples, encode, size, max(1, batch_size // _FLIPS)), size)
        encoded += len(samples)
    return encoded


def _encoded(found: TrainingSet, samples: np.ndarray, encode: Encode, size: int, pairs: int) -> np.ndarray:
    """float16 (N, 2, ...)."""
    parts = []
    for begin in range(0, len(samples), pairs):
        chunk = samples[begin : begin + pairs]
        pictures = np.stack([resize_antialiased(_picture(found, sample), size) for sample in chunk])
        both = np.stack([pictures, pictures[:, :, ::-1]], axis=1).reshape(-1, size, size, 3)
        with np.errstate(over="ignore"):  # is looked for below
            made = np.asarray(encode(both), np.float32).astype(np.float16)
        if made.shape[:1] != both.shape[:1]:
            raise ValueError(
                f"the encoder made an array {made.shape} of {len(both)} pictures; one row for each is needed"
            )
        if not np.isfinite(made).all():
            raise ValueError("the encoder made numbers that are not finite in half precision")
        parts.append(made.reshape(len(chunk), _FLIPS, *made.shape[1:]))
    return np.concatenate(parts)


def _picture(found: TrainingSet, sample: int) -> np.ndarray:
    pixels = members.picture(found.read(sample, ["jpg"]).get("jpg", b""))
    if pixels is None:
        raise found.bad(sample, "does not decode", ".jpg")
    return pixels


def _write(shard: ShardPlace, name: str, rows: np.ndarray, size: int) -> None:
    whole = io.BytesIO()
    np.save(whole, rows, allow_pickle=False)
    data = whole.getbuffer()
    shard.side.delete(f"latents/{name}/{shard.name}.json")
    shard.side.write_bytes(f"latents/{name}/{shard.name}.npy", data, wait_for_disk=False)
    shard.side.write_json(
        f"latents/{name}/{shard.name}.json",
        {
            "format": FORMAT,
            "of": shard.entry["sha256"],
            "size": size,
            "shape": list(rows.shape[2:]),
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "crc": [[zlib.crc32(latent.tobytes()) for latent in pair] for pair in rows],
        },
    )


def _marker(shard: ShardPlace, name: str) -> dict[str, Any] | None:
    file = f"latents/{name}/{shard.name}.json"
    try:
        marker = shard.side.read_json(file) if shard.side.exists(file) else None
        return marker if marker and marker["format"] == FORMAT else None
    except (ValueError, KeyError, TypeError):  # damaged: it is written again
        return None


def _problem(shard: ShardPlace, name: str, size: int, marker: dict[str, Any] | None) -> str | None:
    """Why the latents of a shard cannot be used; None when they can."""
    file = f"latents/{name}/{shard.name}.npy"
    where = shard.side.locate(file)
    if marker is None:
        return f"{where} is missing or unfinished"
    if marker["of"] != shard.entry["sha256"]:
        return f"{where} belongs to another version of the shard"
    if marker["size"] != size:
        return f"{where} is of pictures of {marker['size']} px, not of {size} px"
    if not shard.side.exists(file) or shard.side.size(file) != marker["bytes"]:
        return f"{where} is missing or truncated"
    return None


class Latents:
    """Reads single latents of the samples of a training set. Safe to use from several threads.

    Attributes:
        shape: of one latent.

    Raises:
        ValueError: latents of a shard are missing, damaged, of another size or of another version of the shard; all
            problems at once. Those of lost shards are not looked for.
    """

    def __init__(self, found: TrainingSet, name: str, size: int):
        self._found, self._name = found, name

        def look_at(shard: ShardPlace) -> tuple[dict[str, Any] | None, str | None]:
            marker = None if shard.lost else _marker(shard, name)
            return marker, None if shard.lost else _problem(shard, name, size, marker)

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            looked_at = list(pool.map(look_at, found.shards))
        problems = [problem for _, problem in looked_at if problem]
        if problems:
            raise ValueError("\n".join([*problems, f"write latents {name!r}: data_pipeline.latents.write_latents"]))
        shapes = {tuple(marker["shape"]) for marker, _ in looked_at if marker}
        if len(shapes) > 1:
            raise ValueError(f"latents {name!r} have several shapes: {sorted(shapes)}; write them anew by one encoder")
        self.shape: tuple[int, ...] = shapes.pop() if shapes else ()  # every shard may be lost
        self._bytes = 2 * int(np.prod(self.shape))
        self._crc = [marker["crc"] if marker else [] for marker, _ in looked_at]
        self._begin = [
            marker["bytes"] - len(marker["crc"]) * _FLIPS * self._bytes if marker else 0 for marker, _ in looked_at
        ]
        local = all(shard.side.is_local for shard in found.shards)
        self._open = functools.lru_cache(maxsize=_OPEN_FILES if local else None)(self._open_file)

    def read(self, sample: int, flipped: bool) -> np.ndarray:
        """The latent of a sample or of its mirror image, float16 of `shape`.

        Raises:
            BadSample: the file is gone or its bytes have changed.
            OSError: the storage does not answer.
        """
        number, row = int(self._found.shard_of[sample]), int(self._found.row_of[sample])
        if lost := self._found.shards[number].lost:
            raise self._found.bad(sample, "shard lost", lost)
        begin = self._begin[number] + (row * _FLIPS + flipped) * self._bytes
        try:
            data = self._open(number).read_at(self._bytes, begin)
        except FileNotFoundError:
            raise self._found.bad(sample, "latents lost", "the file is gone") from None
        if len(data) != self._bytes or zlib.crc32(data) != self._crc[number][row][flipped]:
            raise self._found.bad(sample, "latents changed", "they are not what was written")
        return np.frombuffer(data, np.float16).reshape(self.shape)

    def _open_file(self, number: int) -> pa.NativeFile:
        shard = self._found.shards[number]
        return shard.side.open_input(f"latents/{self._name}/{shard.name}.npy")
