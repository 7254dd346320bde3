"""The original's layout from a dataset: identity folders with NAME.jpg, NAME_mask.png and metainfo.json."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import tarfile
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import webdataset

from data_pipeline.manifest import MANIFEST
from data_pipeline.storage import Storage, is_uri


def export(out: str, destination: str) -> dict[str, int]:
    """Write a dataset as image and mask pairs.

    A local destination appears whole or not at all. Images are the JPEG bytes of the samples, not encoded again.

    Args:
        out: dataset folder.
        destination: new folder, local or a URI.

    Returns:
        {"images", "masks", "identities"}.

    Raises:
        ValueError: `out` is not a finished dataset or is damaged, or `destination` exists and is not empty.
    """
    storage = Storage(out)
    if not storage.exists(MANIFEST):
        raise ValueError(f"{out} holds no {MANIFEST}: not a dataset, or not finished; run the build first")
    _check_sizes(storage)
    if is_uri(destination):
        if not Storage(destination).is_empty():
            raise ValueError(f"{destination} is not empty; choose a new destination")
        return _write(storage, Storage(destination))
    target = Path(os.path.abspath(os.path.expanduser(destination)))
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{destination} exists and is not an empty folder; choose a new destination")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        counts = _write(storage, Storage(temporary))
        if target.exists():
            target.rmdir()
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return counts


def _check_sizes(storage: Storage) -> None:
    """A truncated tar may end between two members, and would look like a shorter one that is whole."""
    sizes = {f"shards/{shard['name']}.tar": shard["bytes"] for shard in storage.read_json(MANIFEST)["shards"]}
    damaged = [name for name, size in sizes.items() if not storage.exists(name) or storage.size(name) != size]
    if damaged:
        raise ValueError(f"{', '.join(damaged)}: missing or damaged; run `adaface verify-dataset {storage.uri}`")


def _write(storage: Storage, target: Storage) -> dict[str, int]:
    folders = _folders(storage)
    counts = {"images": 0, "masks": 0, "identities": 0}
    for sample in _samples(storage):
        description = json.loads(sample["json"])
        name = f"{folders[description['identity'] or description['source']]}/{sample['__key__']}"
        target.write_bytes(f"{name}.jpg", sample["jpg"])
        counts["images"] += 1
        if "mask.png" in sample:
            target.write_bytes(f"{name}_mask.png", sample["mask.png"])
            counts["masks"] += 1
    for identity in storage.read_table("identities.parquet").to_pylist():
        if identity["accepted"]:
            # The four fields that the original's filter_faces.py writes and its loader reads.
            target.write_json(
                f"{folders[identity['identity']]}/metainfo.json",
                {
                    "gender": identity["gender"],
                    "age": identity["age"],
                    "person_type": identity["person_type"],
                    "avg_sim": identity["consistency"],
                },
            )
            counts["identities"] += 1
    return counts


def _samples(storage: Storage) -> Iterator[dict[str, Any]]:
    for shard in storage.read_json(MANIFEST)["shards"]:
        try:
            with storage.open_input(f"shards/{shard['name']}.tar") as stream:
                files = webdataset.tariterators.tar_file_expander([{"url": shard["name"], "stream": stream}])
                yield from webdataset.tariterators.group_by_keys(files)
        except tarfile.TarError as error:
            raise ValueError(f"{shard['name']}.tar is damaged; run `adaface verify-dataset {storage.uri}`") from error


def _folders(storage: Storage) -> dict[str, str]:
    """Folder of every identity: its own name, with the source before it where two sources use the same name.

    Images of unknown people share one folder per source. No folder is given twice.
    """
    identities = storage.read_table("identities.parquet", columns=["identity"])["identity"].to_pylist()
    names = {identity: identity.split("/", 1)[1] for identity in identities}
    count = Counter(names.values())
    wanted = {identity: name for identity, name in names.items() if count[name] == 1}
    wanted |= {identity: identity.replace("/", "-", 1) for identity in identities if identity not in wanted}
    wanted |= {entry["name"]: entry["name"] for entry in storage.read_json(MANIFEST)["sources"]}
    folders: dict[str, str] = {}
    taken: set[str] = set()
    for whose, name in wanted.items():
        numbered = (f"{name}-{number}" for number in itertools.count(2))
        folders[whose] = next(folder for folder in itertools.chain([name], numbered) if folder not in taken)
        taken.add(folders[whose])
    return folders
