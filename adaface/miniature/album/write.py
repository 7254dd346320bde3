"""`adaface render-faces`: a photo album as a user would have one, and the truth about every file of it.

    people/PERSON/*.jpg   one folder per person          flat/*.jpg    one folder of strangers
    truth.jsonl           one row per file               truth/        class maps (PNG), where `class_map` of a row says
    about.json            what the album was made with

The truth lies beside the photographs, so that a dataset that is built from `people` and `flat` never sees it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from adaface import __version__
from adaface.miniature.album.faults import PICTURES, SHORTEST, Shot, portrait
from adaface.miniature.album.photo_file import class_map, upright
from adaface.miniature.album.plan import FLAT, PEOPLE, AlbumSize, Photo, plan_album
from adaface.miniature.render import Face

FORMAT = "adaface-album/1"
ABOUT, TRUTH, CLASS_MAPS = "about.json", "truth.jsonl", "truth"
_WORTH_A_POOL = 200  # files; below it other processes are not there before the work is done
_REPORT_EVERY_S = 2.0


def write_album(out: str | os.PathLike[str], size: AlbumSize) -> dict[str, Any]:
    """Make an album in the new or empty folder `out`; whole, or not at all. Equal sizes give equal bytes.

    Returns the content of about.json. Raises ValueError when there is something at `out` already.
    """
    folder = Path(out).expanduser()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{out} is there already and is not an empty folder; remove it, or name another one")
    folder = folder.resolve()
    fresh = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        about = _write(fresh, size)
        os.replace(fresh, folder)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return about


def read_truth(album: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """One row per file of an album, in the order of their making:

    path: in the album; folder: the person its folder is about, null: none; person: who is in it;
    kind: "good" or one of `album.plan.FAULTS`; copy_of: path of the original; fault: numbers of the fault;
    width, height: px, upright; faces: box (4) x0, y0, x1, y1 and landmarks (5, 2) of each, px of the upright picture,
    the person's first; class_map: path of the PNG, null: none; identity, scene, nuisance: all factors; jpeg: how it is
    stored.

    Raises ValueError when there is no album.
    """
    file = Path(album).expanduser() / TRUTH
    if not file.is_file():
        raise ValueError(f"{album} is not an album: it has no {TRUTH}; make one with adaface render-faces")
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _write(folder: Path, size: AlbumSize) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    with open(folder / TRUTH, "w", encoding="utf-8") as truth:
        for row, data, classes in _with_progress(_taken(plan_album(size), size.files), size.files):
            _put(folder / row["path"], data)
            if classes is not None:
                _put(folder / row["class_map"], classes)
            truth.write(json.dumps(row, ensure_ascii=False) + "\n")
            counts[row["kind"]] += 1
    for source in (PEOPLE, FLAT):
        (folder / source).mkdir(exist_ok=True)
    about = {
        "format": FORMAT,
        "version": __version__,
        **asdict(size),
        "files": size.files,
        "kinds": dict(sorted(counts.items())),
    }
    (folder / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return about


Made = tuple[dict[str, Any], bytes, bytes | None]  # the row of the truth, the file, its class map


def _taken(photos: Iterable[Photo], files: int) -> Iterator[Made]:
    cores = len(os.sched_getaffinity(0))
    if cores == 1 or files < _WORTH_A_POOL:
        yield from map(make_photo, photos)
        return
    import multiprocessing

    with ProcessPoolExecutor(cores, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(make_photo, photos, chunksize=8)


def make_photo(photo: Photo) -> Made:
    """Draw and store one photograph. A function of `photo` alone."""
    rng = np.random.default_rng(photo.seed)
    if photo.copy_of is None:
        shot = _shot(photo, rng)
        data = photo.jpeg.encode(shot.image)
        if photo.kind == "broken":
            data, variant = _damage(data, rng)
            return _row(photo, None, {"variant": variant}), data, None
    else:
        original = photo.copy_of
        shot = _shot(original, np.random.default_rng(original.seed))
        data = original.jpeg.encode(shot.image)
        if photo.kind == "near_duplicate":
            shot = _smaller(upright(data), shot, rng)
            data = photo.jpeg.encode(shot.image)
    return _row(photo, shot, shot.details), data, class_map(shot.classes)


def _shot(photo: Photo, rng: np.random.Generator) -> Shot:
    draw = PICTURES.get(photo.kind, portrait)
    return portrait(photo.identity, rng, studio=photo.studio) if draw is portrait else draw(photo.identity, rng)


def _damage(data: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    variant = str(rng.choice(["truncated", "empty", "text"]))
    if variant == "empty":
        return b"", variant
    if variant == "text":
        return b"<html><body><h1>404 Not Found</h1></body></html>\n", variant
    return data[: int(len(data) * rng.uniform(0.2, 0.8))], variant


def _smaller(image: np.ndarray, original: Shot, rng: np.random.Generator) -> Shot:
    """The picture of a file, scaled down by up to a half, as far as it stays large enough to be judged."""
    height, width = image.shape[:2]
    least = min(1.0, (SHORTEST + 1) / min(height, width))
    factor = float(rng.uniform(max(0.5, least), 1.0))
    size = (round(width * factor), round(height * factor))
    x, y = size[0] / width, size[1] / height
    scale = np.array([x, y], np.float32)
    return Shot(
        image=cv2.resize(image, size, interpolation=cv2.INTER_AREA),
        classes=cv2.resize(original.classes, size, interpolation=cv2.INTER_NEAREST),
        faces=tuple(Face(face.landmarks * scale, face.box * np.tile(scale, 2)) for face in original.faces),
        scene=original.scene,
        nuisance=original.nuisance,
        details={"factor": round(factor, 3)},
    )


def _row(photo: Photo, shot: Shot | None, details: dict[str, Any]) -> dict[str, Any]:
    shown = shot is not None and bool(shot.faces)
    return {
        "path": photo.path,
        "folder": photo.folder or None,
        "person": photo.person if shown else None,
        "kind": photo.kind,
        "copy_of": photo.copy_of and photo.copy_of.path,
        "fault": details,
        "width": shot and shot.image.shape[1],
        "height": shot and shot.image.shape[0],
        "faces": [
            {"box": _rounded(face.box), "landmarks": _rounded(face.landmarks)} for face in (shot.faces if shot else ())
        ],
        "class_map": shot and f"{CLASS_MAPS}/{photo.path}.png",
        "identity": asdict(photo.identity) if shown else None,
        "scene": shot and shot.scene and asdict(shot.scene),
        "nuisance": shot and shot.nuisance and asdict(shot.nuisance),
        "jpeg": {
            name: value
            for name, value in asdict(photo.jpeg).items()
            if name in ("quality", "subsampling", "orientation")
        },
    }


def _rounded(values: np.ndarray) -> list:
    return np.round(values.astype(np.float64), 2).tolist()


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _with_progress(made: Iterable[Made], total: int) -> Iterator[Made]:
    """Says on stderr how far it is, and how long it will take."""
    started = said = time.monotonic()
    for done, item in enumerate(made, start=1):
        yield item
        now = time.monotonic()
        if now - said >= _REPORT_EVERY_S or done == total:
            left = (now - started) / done * (total - done)
            print(f"rendering: {done:,} of {total:,} photos, {left:.0f} s left", file=sys.stderr, flush=True)
            said = now
