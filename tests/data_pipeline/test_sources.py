"""Listing folders as people really have them, without ever changing or trusting them."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from data_pipeline.config import DataConfig
from data_pipeline.sources import Listing, hash_images, list_images, source_table
from data_pipeline.storage import Storage
from tests.data_pipeline.phases import tree
from tests.tiny_world import make_photos

MAX = 1_000_000
NOBODY = 65534


def touch(root: Path, *names: str) -> Path:
    """Files whose content is their name."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def config(*sources: Path | str | dict[str, Any], output: str = "/nowhere/out", **data: Any) -> DataConfig:
    mappings = [source if isinstance(source, dict) else {"path": str(source), "name": "src"} for source in sources]
    return DataConfig(sources=mappings, output=output, **data)


def names(listing: Listing, root: Path) -> list[str]:
    return [os.path.relpath(image.path, root) for image in listing.images]


def test_identities_are_the_first_folder_below_the_source(tmp_path: Path) -> None:
    touch(tmp_path, "bob/1.jpg", "ann/2.png", "ann/deep/er/3.webp", "at the root.jpg")
    listing = list_images(config(tmp_path))
    assert [(name, image.identity) for name, image in zip(names(listing, tmp_path), listing.images, strict=True)] == [
        ("ann/2.png", "src/ann"),
        ("ann/deep/er/3.webp", "src/ann"),
        ("at the root.jpg", None),
        ("bob/1.jpg", "src/bob"),
    ]
    assert not listing.ignored


def test_flat_layout_knows_nobody(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "00000/2.jpg")
    listing = list_images(config({"path": str(tmp_path), "layout": "flat"}))
    assert names(listing, tmp_path) == ["00000/2.jpg", "1.jpg"]
    assert [image.identity for image in listing.images] == [None, None]


def test_pairs_layout_gives_masks(tmp_path: Path) -> None:
    touch(tmp_path, "ann/1.jpg", "ann/1_mask.png", "ann/2.jpeg")
    one, two = list_images(config({"path": str(tmp_path), "layout": "pairs"})).images
    assert one.mask_path == str(tmp_path / "ann/1_mask.png") and one.mask_is_given
    assert two.mask_path is None and not two.mask_is_given


def test_masks_beside_ordinary_photos_are_only_compared(tmp_path: Path) -> None:
    touch(tmp_path, "ann/1.webp", "ann/1_MASK.PNG")
    (image,) = list_images(config(tmp_path)).images
    assert image.mask_path == str(tmp_path / "ann/1_MASK.PNG")
    assert not image.mask_is_given


def test_a_mask_belongs_to_the_image_of_its_own_folder(tmp_path: Path) -> None:
    touch(tmp_path, "ann/1.jpg", "bob/1_mask.png", "bob/2.jpg")
    listing = list_images(config(tmp_path))
    assert [image.mask_path for image in listing.images] == [None, None]
    assert listing.ignored == {"_mask.png without its image": 1}


def test_a_mask_of_something_that_is_no_image_is_counted(tmp_path: Path) -> None:
    touch(tmp_path, "ann/1.txt", "ann/1_mask.png", "ann/2.jpg")
    listing = list_images(config(tmp_path))
    assert names(listing, tmp_path) == ["ann/2.jpg"]
    assert listing.ignored == {".txt": 1, "_mask.png without its image": 1}


def test_what_is_no_photo_is_counted_by_extension(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "a/1.TXT", "a/2.txt", "a/README", "a/3.jpg.bak", "a/.hidden.jpg", ".git/4.jpg")
    listing = list_images(config(tmp_path))
    assert names(listing, tmp_path) == ["a/1.jpg"]
    assert listing.ignored == {".txt": 2, "(no extension)": 1, ".bak": 1}


def test_every_extension_in_any_case(tmp_path: Path) -> None:
    expected = [
        f"a/{n}.{e}" for n, e in enumerate(("JPG", "jpeg", "Png", "webp", "bmp", "tif", "TIFF", "gif", "avif"))
    ]
    touch(tmp_path, *expected)
    assert names(list_images(config(tmp_path)), tmp_path) == expected


def test_unicode_and_spaces_in_names(tmp_path: Path) -> None:
    odd = ["Ünï cödé/a b  c.jpg", "名前/写真 1.jpg", "o'neil; rm -rf/100% #1?.jpg", "new\nline/x\n.jpg"]
    touch(tmp_path, *odd)
    images = list_images(config(tmp_path)).images
    assert sorted(image.identity or "" for image in images) == sorted("src/" + name.split("/")[0] for name in odd)
    rows = hash_images(images, MAX)
    assert [row["error"] for row in rows] == [None] * len(odd)


def test_names_that_are_no_text_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg")
    with open(os.fsencode(tmp_path) + b"/a/\xff\xfe.jpg", "wb"):
        pass
    listing = list_images(config(tmp_path))
    assert names(listing, tmp_path) == ["a/1.jpg"]
    assert listing.ignored == {"(name is not valid UTF-8)": 1}


def test_links_are_followed_but_not_for_ever(tmp_path: Path) -> None:
    touch(tmp_path, "src/ann/1.jpg", "elsewhere/2.jpg")
    (tmp_path / "src/ann/loop").symlink_to(tmp_path / "src")
    (tmp_path / "src/self").symlink_to(tmp_path / "src/self")
    (tmp_path / "src/bob").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "src/ann/3.jpg").symlink_to(tmp_path / "elsewhere/2.jpg")
    listing = list_images(config(tmp_path / "src"))
    assert names(listing, tmp_path / "src") == ["ann/1.jpg", "ann/3.jpg", "bob/2.jpg"]


def test_what_cannot_be_read_becomes_a_row_with_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "a/good.jpg", "a/large.jpg")
    (tmp_path / "a/dangling.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "a/ring.jpg").symlink_to(tmp_path / "a/ring.jpg")
    os.mkfifo(tmp_path / "a/pipe.jpg")  # opening it would wait for ever
    images = list_images(config(tmp_path)).images
    assert len(images) == 5
    rows = dict(zip(names_of(images), hash_images(images, len("a/good.jpg")), strict=True))
    assert rows["good.jpg"]["error"] is None
    assert rows["good.jpg"]["image_id"] == hashlib.sha256(b"a/good.jpg").hexdigest()
    bad = [name for name, row in rows.items() if row["error"]]
    assert bad == ["dangling.jpg", "large.jpg", "pipe.jpg", "ring.jpg"]
    assert "11 bytes are more than the 10 allowed" in rows["large.jpg"]["error"]
    assert len({row["image_id"] for row in rows.values()}) == 5, "unreadable files are not one another's duplicates"


def names_of(images: list) -> list[str]:
    return [os.path.basename(image.path) for image in images]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter (pytest's own are private)."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_files_and_folders_without_permission(open_folder: Path) -> None:
    touch(open_folder, "a/good.jpg", "a/secret.jpg", "locked/1.jpg")
    (open_folder / "a/secret.jpg").chmod(0)
    (open_folder / "locked").chmod(0)

    def look() -> str:
        listing = list_images(config(open_folder))
        rows = hash_images(listing.images, MAX)
        errors = [
            f"{os.path.basename(i.path)}:{bool(row['error'])}" for i, row in zip(listing.images, rows, strict=True)
        ]
        return f"{errors} {dict(listing.ignored)}"

    seen = as_ordinary_user(look)
    assert seen == "['good.jpg:False', 'secret.jpg:True'] {'(folder that may not be opened)': 1}"


def as_ordinary_user(action: Callable[[], str]) -> str:
    """The result of `action` in a child process that is not root, whom nothing can stop from reading."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            os.write(writable, action().encode())
        except BaseException as error:  # noqa: BLE001 - the child must end here, whatever happens
            os.write(writable, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writable)
    with os.fdopen(readable) as stream:
        text = stream.read()
    os.waitpid(child, 0)
    return text


def test_max_per_identity_keeps_the_first_by_path(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{person}/{number}.jpg" for person in "ab" for number in range(5)), "b/0_mask.png", "root.jpg")
    listing = list_images(config({"path": str(tmp_path), "max_per_identity": 2}))
    assert names(listing, tmp_path) == ["a/0.jpg", "a/1.jpg", "b/0.jpg", "b/1.jpg", "root.jpg"]
    assert listing.ignored == {"beyond max_per_identity": 6}


def test_limit_stops_the_list(tmp_path: Path) -> None:
    touch(tmp_path, *(f"x/{person}/{number}.jpg" for person in "ab" for number in range(3)))
    touch(tmp_path, "y/c/0.jpg")
    both = [{"path": str(tmp_path / "x"), "name": "z"}, {"path": str(tmp_path / "y"), "name": "a"}]
    assert len(list_images(config(*both)).images) == 7
    assert names(list_images(config(*both, limit=4)), tmp_path / "x") == ["a/0.jpg", "a/1.jpg", "a/2.jpg", "b/0.jpg"]


def test_output_and_source_must_not_overlap(tmp_path: Path) -> None:
    source = touch(tmp_path / "photos", "a/1.jpg")
    (tmp_path / "link").symlink_to(source)
    for output in ("photos", "photos/out", "photos/a/../out", "link/out"):
        with pytest.raises(ValueError, match="lies inside source"):
            list_images(config(source, output=str(tmp_path / output)))
    with pytest.raises(ValueError, match="lies inside output"):
        list_images(config(source, output=str(tmp_path)))
    assert list_images(config(source, output=str(tmp_path / "photos-out"))).images


def test_output_and_source_must_not_overlap_in_an_object_store(s3: Callable[[], str]) -> None:
    bucket = s3()
    Storage(f"{bucket}/photos").write_bytes("a/1.jpg", b"1")
    for output in ("photos", "photos/", "photos/out"):
        with pytest.raises(ValueError, match="lies inside source"):
            list_images(config(f"{bucket}/photos", output=f"{bucket}/{output}"))
    for output in (bucket, f"{bucket}/"):
        with pytest.raises(ValueError, match="lies inside output"):
            list_images(config(f"{bucket}/photos", output=output))
    assert list_images(config(f"{bucket}/photos", output=f"{bucket}/photos-out")).images
    assert list_images(config(f"{bucket}/photos", output=f"{s3()}/photos")).images


def test_all_problems_at_once(tmp_path: Path, s3: Callable[[], str]) -> None:
    touch(tmp_path, "empty/a/notes.txt", "inside/a/1.jpg")
    sources = [
        {"path": str(tmp_path / "missing"), "name": "one"},
        {"path": str(tmp_path / "empty"), "name": "two"},
        {"path": str(tmp_path / "inside"), "name": "three"},
        {"path": f"{s3()}/nothing", "name": "four"},
    ]
    with pytest.raises(ValueError) as problem:
        list_images(config(*sources, output=str(tmp_path / "inside/out")))
    text = str(problem.value)
    assert len(text.splitlines()) == 4
    assert "source one: no folder" in text
    assert "source two: no image in" in text
    assert "lies inside source" in text
    assert "source four: nothing at" in text


def test_a_file_is_no_source(tmp_path: Path) -> None:
    touch(tmp_path, "photo.jpg")
    with pytest.raises(ValueError, match="no folder"):
        list_images(config(tmp_path / "photo.jpg"))


def test_sources_are_never_modified(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", people=2, each=2)
    touch(tmp_path / "photos", "person-00/000_mask.png", "person-00/notes.txt")
    for path in (tmp_path / "photos").rglob("*.jpg"):
        path.chmod(stat.S_IRUSR)
    before = tree(tmp_path / "photos")
    images = list_images(config({"path": str(tmp_path / "photos"), "layout": "pairs"})).images
    hash_images(images, MAX)
    assert tree(tmp_path / "photos") == before


def test_a_stamp_changes_with_the_image_and_with_its_mask(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "a/1_mask.png", "a/2.jpg")

    def stamps() -> list[str]:
        return [image.stamp for image in list_images(config(tmp_path)).images]

    first = stamps()
    assert stamps() == first
    os.utime(tmp_path / "a/1.jpg", ns=(0, 12345))
    second = stamps()
    assert second[0] != first[0] and second[1] == first[1]
    (tmp_path / "a/1_mask.png").write_text("other and longer")
    third = stamps()
    assert third[0] != second[0] and third[1] == first[1]
    (tmp_path / "a/1_mask.png").unlink()
    assert stamps()[0] not in (first[0], second[0], third[0])


def test_source_table_has_a_row_per_file(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "a/1_mask.png", "b/3.jpg")
    shutil.copy(tmp_path / "a/1.jpg", tmp_path / "b/2.jpg")
    (tmp_path / "b/3_mask.png").symlink_to(tmp_path / "gone.png")
    source = {"path": str(tmp_path), "name": "src", "layout": "pairs", "licence": "CC0"}
    images = list_images(config(source)).images
    table = source_table(images, {row["stamp"]: row for row in hash_images(images, MAX)})
    one, two, three = table.to_pylist()
    assert one["image_id"] == two["image_id"] == hashlib.sha256(b"a/1.jpg").hexdigest()
    assert one["mask_id"] == "given:" + hashlib.sha256(b"a/1_mask.png").hexdigest() and one["mask_is_given"]
    assert two["mask_id"] is None and two["mask_path"] is None and not two["mask_is_given"]
    assert three["mask_id"] is None and three["mask_path"] is None, "a mask that cannot be read is none"
    assert not three["mask_is_given"] and three["error"] is None
    assert [row["licence"] for row in (one, two, three)] == ["CC0"] * 3
    assert one["bytes"] == len("a/1.jpg")


def test_an_object_store_lists_as_a_folder_does(tmp_path: Path, s3: Callable[[], str]) -> None:
    files = ("ann/1 ü.jpg", "ann/1 ü_mask.png", "ann/.hidden.jpg", "bob/deep/2.png", "x.txt", ".git/3.jpg")
    touch(tmp_path, *files)
    remote = Storage(f"{s3()}/all photos")
    for name in files:
        remote.write_bytes(name, name.encode())
    local = list_images(config(tmp_path))
    there = list_images(config(remote.uri))
    assert [image.path.removeprefix(remote.uri + "/") for image in there.images] == names(local, tmp_path)
    assert [(i.identity, i.size, bool(i.mask_path)) for i in there.images] == [
        (i.identity, i.size, bool(i.mask_path)) for i in local.images
    ]
    assert there.ignored == local.ignored
    for a, b in zip(hash_images(there.images, MAX), hash_images(local.images, MAX), strict=True):
        assert (a["image_id"], a["mask_id"], a["error"]) == (b["image_id"], b["mask_id"], None)
