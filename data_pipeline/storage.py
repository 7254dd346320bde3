"""Files in a folder, local or in an object store, that appear whole or not at all.

One class over `pyarrow.fs`: `Storage("out/faces")` and `Storage("s3://bucket/faces")` behave alike. An S3 endpoint
other than Amazon's comes from the environment (`AWS_ENDPOINT_URL`) or from the URI's query
(`?endpoint_override=...&scheme=http`).
"""

from __future__ import annotations

import json
import os
import stat
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs


class Storage:
    """A folder. Names are relative to it and use `/`."""

    def __init__(self, uri: str | Path):
        self.uri = str(uri).rstrip("/") or "/"
        self._fs, self._root, self.is_local = _resolve(self.uri)

    def __repr__(self) -> str:
        return f"Storage({self.uri!r})"

    def _at(self, name: str) -> str:
        if name.startswith("/") or ".." in name.split("/"):
            raise ValueError(f"{name!r} is not a name inside {self.uri}")
        return f"{self._root}/{name}" if name else self._root

    def filesystem(self) -> tuple[fs.FileSystem, str]:
        """For libraries that write by themselves: pyarrow's file system, and this folder in it."""
        return self._fs, self._root

    def locate(self, name: str) -> str:
        """Full path or URI of a name."""
        return inside(self.uri, name)

    def local_path(self, name: str = "") -> Path:
        """Path on this machine; ValueError in an object store."""
        if not self.is_local:
            raise ValueError(f"{self.uri} is not a local folder")
        return Path(self._at(name))

    def exists(self, name: str) -> bool:
        return self._fs.get_file_info(self._at(name)).type != fs.FileType.NotFound

    def size(self, name: str) -> int:
        """Bytes of a file; FileNotFoundError when it is absent."""
        info = self._fs.get_file_info(self._at(name))
        if info.type != fs.FileType.File:
            raise FileNotFoundError(self.locate(name))
        return info.size

    def list(self, prefix: str = "") -> list[str]:
        """Names of the files directly in folder `prefix`, sorted; a folder that does not exist is empty."""
        selector = fs.FileSelector(self._at(prefix), recursive=False, allow_not_found=True)
        infos = self._fs.get_file_info(selector)
        base = f"{prefix.rstrip('/')}/" if prefix else ""
        return sorted(
            base + info.base_name
            for info in infos
            if info.type == fs.FileType.File and not info.base_name.startswith(".tmp-")
        )

    def is_empty(self) -> bool:
        """Whether the folder holds neither files nor folders, or does not exist."""
        return not self._fs.get_file_info(fs.FileSelector(self._root, recursive=False, allow_not_found=True))

    def read_bytes(self, name: str) -> bytes:
        with self._fs.open_input_file(self._at(name)) as stream:
            return stream.read()

    def open_input(self, name: str) -> pa.NativeFile:
        """Random-access stream, to be closed by the caller."""
        return self._fs.open_input_file(self._at(name))

    def write_bytes(self, name: str, data: bytes | memoryview | pa.Buffer, *, wait_for_disk: bool = True) -> None:
        """Write a file so that readers see the old content or the new, never a part.

        A local file gets a temporary name first and is renamed when it is on disk. An object store shows an object
        only once its upload is complete, so there the write is direct.

        Args:
            wait_for_disk: False leaves it to the operating system when the bytes reach the disk, for large files that
                are checked by their size before they are believed.
        """
        target = self._at(name)
        if not self.is_local:
            with self._fs.open_output_stream(target) as stream:
                stream.write(data)
            return
        path = Path(target)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".tmp-{uuid.uuid4().hex}")
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                if wait_for_disk:
                    os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def delete(self, name: str) -> None:
        """Remove a file; a file that is not there is fine."""
        if self.exists(name):
            self._fs.delete_file(self._at(name))

    def sweep(self, prefix: str) -> None:
        """Remove temporary files that a killed process left in folder `prefix`."""
        if not self.is_local:
            return
        folder = self.local_path(prefix)
        for leftover in folder.glob(".tmp-*") if folder.is_dir() else ():
            leftover.unlink(missing_ok=True)

    def read_json(self, name: str) -> Any:
        return json.loads(self.read_bytes(name))

    def write_json(self, name: str, value: Any) -> None:
        self.write_bytes(name, json_bytes(value))

    def read_table(self, name: str, columns: Sequence[str] | None = None, filters: Any = None) -> pa.Table:
        with self.open_input(name) as stream:
            return pq.read_table(stream, columns=columns and [*columns], filters=filters, partitioning=None)

    def iterate_table(
        self, name: str, columns: Sequence[str] | None = None, rows: int = 1024
    ) -> Iterator[pa.RecordBatch]:
        """Record batches of a Parquet file, so that a long table need not fit in memory."""
        with self.open_input(name) as stream:
            yield from pq.ParquetFile(stream).iter_batches(batch_size=rows, columns=columns and [*columns])

    def write_table(self, name: str, table: pa.Table, row_group_size: int | None = None) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", row_group_size=row_group_size)
        self.write_bytes(name, sink.getvalue())


def json_bytes(value: Any) -> bytes:
    """JSON with sorted keys, so that equal values give equal bytes."""
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def read_file(path: str, max_bytes: int | None = None) -> bytes:
    """The bytes of one file given by full path or URI.

    Raises:
        OSError: it is absent, unreadable or not a regular file (a pipe would block for ever).
        ValueError: it is larger than `max_bytes`.
    """
    filesystem, inner, is_local = _resolve(path)
    if is_local:
        status = os.stat(inner)
        if not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError(f"{path} is not a regular file")
        size = status.st_size
    else:
        info = filesystem.get_file_info(inner)
        if info.type != fs.FileType.File:
            raise FileNotFoundError(f"{path} is absent")
        size = info.size
    if max_bytes is not None and size > max_bytes:
        raise ValueError(f"{size:,} bytes are more than the {max_bytes:,} allowed (data.max_bytes)")
    if is_local:
        with open(inner, "rb") as file:
            return file.read()
    with filesystem.open_input_file(inner) as stream:
        return stream.read()


def is_uri(path: str) -> bool:
    """Whether a path names an object store (`s3://...`) rather than a local file."""
    return "://" in path


def inside(folder: str, name: str) -> str:
    """What is called `name` in a local folder, or in a URI, whose query (an endpoint, say) stays at its end."""
    place, mark, query = folder.partition("?") if is_uri(folder) else (folder, "", "")
    return f"{place.rstrip('/')}/{name}{mark}{query}"


def _resolve(uri: str) -> tuple[fs.FileSystem, str, bool]:
    if uri.startswith("file://"):
        uri = uri[len("file://") :]
    if not is_uri(uri):
        return _LOCAL, os.path.abspath(os.path.expanduser(uri)), True
    scheme = uri.split("://", 1)[0]
    base, _, inner = uri.partition("://")[2].partition("?")[0].partition("/")
    query = uri.partition("?")[2]
    # One file system object per bucket and process: each holds its own connection pool.
    key = (scheme, base, query)
    if key not in _REMOTE:
        _REMOTE[key] = fs.FileSystem.from_uri(f"{scheme}://{base}" + (f"?{query}" if query else ""))[0]
    return _REMOTE[key], f"{base}/{inner}".rstrip("/"), False


_LOCAL = fs.LocalFileSystem()
_REMOTE: dict[tuple[str, str, str], fs.FileSystem] = {}
