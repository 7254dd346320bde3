"""Pictures that were drawn together, in one file until each of them has its own.

What is in a batch enters the last bits of its pictures, through the order in which sums of such a size are taken, and
now and then one value of one pixel: a picture that is drawn alone is not always the same file as from its batch. So a
batch is drawn whole or not at all. A run that is killed while it writes one picture after the other has the whole batch
in this file, and the next run takes the missing ones from there: nothing is drawn twice, and every byte is the same.
"""

from __future__ import annotations

import pyarrow as pa

from data_pipeline.storage import Storage

FOLDER = "drawn"  # in the output, empty when a run is done


def keep(out: Storage, name: str, pictures: dict[str, bytes]) -> None:
    """Write the batch `name`: {file of a picture: its PNG}."""
    table = pa.table({"file": pa.array(pictures.keys()), "png": pa.array(pictures.values(), pa.large_binary())})
    out.write_table(_file(name), table)


def kept(out: Storage, name: str) -> dict[str, bytes] | None:
    """What `keep` wrote; None where there is no such batch."""
    if not out.exists(_file(name)):
        return None
    rows = out.read_table(_file(name)).to_pylist()
    return {row["file"]: row["png"] for row in rows}


def forget(out: Storage, name: str) -> None:
    out.delete(_file(name))


def forget_all(out: Storage) -> None:
    """Also batches of other settings, of which a killed run left something."""
    for file in out.list(FOLDER):
        out.delete(file)


def _file(name: str) -> str:
    return f"{FOLDER}/{name}.parquet"
