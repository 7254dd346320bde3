"""Files appear whole or not at all, and names stay inside their folder, locally and in an object store."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from data_pipeline.storage import Storage, inside, is_uri, read_file


@pytest.fixture(params=["local", "s3"])
def out(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """An empty folder that does not exist yet."""
    if request.param == "local":
        return Storage(tmp_path / "a folder" / "of ünïcode")
    bucket: Callable[[], str] = request.getfixturevalue("s3")
    return Storage(f"{bucket()}/a folder/of ünïcode")


def test_a_folder_that_does_not_exist_is_empty(out: Storage) -> None:
    assert out.list() == []
    assert out.list("shards") == []
    assert not out.exists("dataset.json")
    out.delete("dataset.json")
    out.sweep("shards")
    with pytest.raises(FileNotFoundError):
        out.size("dataset.json")
    with pytest.raises(OSError):
        out.read_bytes("dataset.json")


def test_bytes_come_back(out: Storage) -> None:
    data = bytes(range(256)) * 1000
    out.write_bytes("deep/er/ünï code.bin", data)
    assert out.read_bytes("deep/er/ünï code.bin") == data
    assert out.size("deep/er/ünï code.bin") == len(data)
    assert out.exists("deep/er/ünï code.bin")
    out.write_bytes("deep/er/ünï code.bin", memoryview(b"short"))
    assert out.read_bytes("deep/er/ünï code.bin") == b"short"
    out.delete("deep/er/ünï code.bin")
    assert not out.exists("deep/er/ünï code.bin")


def test_listing_is_sorted_and_of_one_folder(out: Storage) -> None:
    for name in ("b", "a", "sub/z", "sub/y", "sub/deeper/x"):
        out.write_bytes(name, b"1")
    assert out.list() == ["a", "b"]
    assert out.list("sub") == out.list("sub/") == ["sub/y", "sub/z"]


def test_equal_values_give_equal_json(out: Storage) -> None:
    out.write_json("one", {"b": 1, "a": {"ü": [2, None]}})
    out.write_json("two", {"a": {"ü": [2, None]}, "b": 1})
    assert out.read_bytes("one") == out.read_bytes("two")
    assert out.read_json("one") == {"a": {"ü": [2, None]}, "b": 1}


def test_tables_come_back_with_their_metadata(out: Storage) -> None:
    table = pa.table({"number": list(range(100)), "word": ["x"] * 100}).replace_schema_metadata({"made": "here"})
    out.write_table("part=1/table.parquet", table, row_group_size=7)
    assert out.read_table("part=1/table.parquet").equals(table, check_metadata=True)
    assert out.read_table("part=1/table.parquet", columns=["word"]).column_names == ["word"]
    batches = list(out.iterate_table("part=1/table.parquet", columns=["number"], rows=30))
    assert [n for batch in batches for n in batch["number"].to_pylist()] == list(range(100))
    assert max(len(batch) for batch in batches) <= 30


@pytest.mark.parametrize("name", ["../up", "a/../../up", "/etc/passwd", "a/.."])
def test_names_that_leave_the_folder_are_refused(out: Storage, name: str) -> None:
    for action in (out.exists, out.read_bytes, out.delete, out.size, out.list, lambda n: out.write_bytes(n, b"")):
        with pytest.raises(ValueError, match="not a name inside"):
            action(name)


def test_two_dots_inside_a_name_are_fine(out: Storage) -> None:
    out.write_bytes("a..b/..c", b"1")
    assert out.list("a..b") == ["a..b/..c"]


def test_a_reader_never_sees_a_part(tmp_path: Path) -> None:
    out = Storage(tmp_path)
    contents = [bytes([value]) * 1_000_000 for value in range(20)]
    out.write_bytes("file", contents[0])
    done = threading.Event()

    def write() -> None:
        for content in contents:
            out.write_bytes("file", content)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = []
    while not done.is_set():
        seen.append(out.read_bytes("file"))
    writer.join()
    assert seen and all(content in contents for content in seen)
    assert out.read_bytes("file") == contents[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    out = Storage(tmp_path)
    out.write_bytes("file", b"old")
    with pytest.raises(TypeError):
        out.write_bytes("file", "text is no bytes")  # type: ignore[arg-type]
    assert out.read_bytes("file") == b"old"
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        out.write_bytes("folder", b"a file cannot replace a folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_leftovers_of_a_killed_process_are_not_listed_and_are_swept(tmp_path: Path) -> None:
    out = Storage(tmp_path)
    child = os.fork()
    if child == 0:
        # Killed between the temporary file and its rename: the very place where a leftover is made.
        try:
            os.replace = lambda *_: os._exit(9)  # type: ignore[assignment]
            out.write_bytes("sub/file", b"half")
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert len(list((tmp_path / "sub").iterdir())) == 1
    assert out.list("sub") == []
    out.write_bytes("sub/whole", b"1")
    out.sweep("sub")
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["whole"]


def test_forms_of_one_address(tmp_path: Path) -> None:
    Storage(tmp_path).write_bytes("file", b"1")
    for uri in (f"{tmp_path}/", f"file://{tmp_path}", os.path.relpath(tmp_path), tmp_path):
        storage = Storage(uri)
        assert storage.is_local and storage.read_bytes("file") == b"1"
        assert storage.local_path("file") == tmp_path / "file"
    assert is_uri("s3://bucket") and is_uri("gs://bucket/x") and not is_uri("/a/b") and not is_uri("a:b")


def test_an_object_store_has_no_local_paths(s3: Callable[[], str]) -> None:
    out = Storage(f"{s3()}/faces/")
    assert not out.is_local
    assert out.locate("x").endswith("/faces/x")
    assert inside("s3://b/f/?scheme=http", "x/y") == "s3://b/f/x/y?scheme=http"
    assert inside("a folder?", "x") == "a folder?/x"  # a local one may be called anything
    with pytest.raises(ValueError, match="not a local folder"):
        out.local_path("x")


def test_a_bucket_itself_is_a_folder(s3: Callable[[], str]) -> None:
    bucket = s3()
    Storage(bucket).write_bytes("faces/one", b"1")
    assert Storage(bucket).exists("")
    assert Storage(bucket).list("faces") == ["faces/one"]
    assert Storage(f"{bucket}/faces").read_bytes("one") == b"1"


def test_read_file_bounds_and_refuses(tmp_path: Path) -> None:
    path = tmp_path / "ten"
    path.write_bytes(b"0123456789")
    assert read_file(str(path)) == read_file(str(path), 10) == b"0123456789"
    with pytest.raises(ValueError, match="10 bytes are more than the 9 allowed"):
        read_file(str(path), 9)
    os.mkfifo(tmp_path / "pipe")
    for absent in ("nothing", "pipe", "."):
        with pytest.raises(FileNotFoundError):
            read_file(str(tmp_path / absent))


def test_read_file_bounds_and_refuses_in_an_object_store(s3: Callable[[], str]) -> None:
    folder = f"{s3()}/a b"
    Storage(folder).write_bytes("zwölf %41.jpg", b"0123456789ab")
    assert read_file(f"{folder}/zwölf %41.jpg", 12) == b"0123456789ab"
    with pytest.raises(ValueError, match="12 bytes"):
        read_file(f"{folder}/zwölf %41.jpg", 11)
    with pytest.raises(FileNotFoundError):
        read_file(f"{folder}/nothing.jpg")


def test_emptiness_sees_folders_too(out: Storage) -> None:
    assert out.is_empty()
    out.write_bytes("deep/er/file", b"1")
    assert not out.is_empty() and out.list() == []
