"""Export to the original's layout: whole or not at all, the very bytes of the samples."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import webdataset

from data_pipeline.pairs import export
from data_pipeline.sources import list_images
from data_pipeline.storage import Storage
from tests.data_pipeline.phases import World, tree, world
from tests.tiny_world import make_photos, photo


def samples(out: Path) -> dict[str, dict[str, bytes]]:
    found = {}
    for tar in sorted((out / "shards").glob("*.tar")):
        with tar.open("rb") as stream:
            files = webdataset.tariterators.tar_file_expander([{"url": tar.name, "stream": stream}])
            found.update({sample["__key__"]: sample for sample in webdataset.tariterators.group_by_keys(files)})
    return found


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_layout_and_bytes(made: Path, tmp_path: Path) -> None:
    before = tree(made)
    counts = export(str(made), str(tmp_path / "new/pairs"))
    assert counts == {"images": 24, "masks": 24, "identities": 4}
    assert tree(made) == before
    expected = [f"person-{person:02d}/metainfo.json" for person in range(4)]
    for key, sample in samples(made).items():
        name = json.loads(sample["json"])["identity"].removeprefix("tiny/") + "/" + key
        assert (tmp_path / f"new/pairs/{name}.jpg").read_bytes() == sample["jpg"]
        assert (tmp_path / f"new/pairs/{name}_mask.png").read_bytes() == sample["mask.png"]
        expected += [f"{name}.jpg", f"{name}_mask.png"]
    assert files(tmp_path / "new/pairs") == sorted(expected)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["pairs"]


def test_metainfo_has_the_original_s_four_fields(made: Path, tmp_path: Path) -> None:
    export(str(made), str(tmp_path / "pairs"))
    for identity in Storage(made).read_table("identities.parquet").to_pylist():
        info = json.loads(
            (tmp_path / "pairs" / identity["identity"].removeprefix("tiny/") / "metainfo.json").read_text()
        )
        assert info == {
            "gender": None,
            "age": None,
            "person_type": "person",
            "avg_sim": pytest.approx(identity["consistency"]),
        }


def test_what_is_written_reads_back_as_pairs(made: Path, pack: Path, parser: Path, tmp_path: Path) -> None:
    export(str(made), str(tmp_path / "pairs"))
    sources = [{"path": str(tmp_path / "pairs"), "layout": "pairs", "name": "back"}]
    again = world("", pack, tmp_path / "out", parser, sources=sources, min_side=None)
    listing = list_images(again.data)
    assert len(listing.images) == 24 and all(image.mask_is_given for image in listing.images)
    assert listing.ignored == {".json": 4}
    assert again.build()["counts"]["accepted"] == 24
    masks = {sample["jpg"]: sample["mask.png"] for sample in samples(made).values()}
    images = {json.loads(s["json"])["file"]: s["mask.png"] for s in samples(tmp_path / "out").values()}
    for name, mask in images.items():
        assert masks[(tmp_path / "pairs" / name).read_bytes()] == mask


def test_a_destination_that_holds_something_is_refused(made: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("full", "file"):
        with pytest.raises(ValueError, match="is not an empty folder"):
            export(str(made), str(tmp_path / name))
    assert files(tmp_path) == ["file", "full/mine.txt"]
    (tmp_path / "empty").mkdir()
    assert export(str(made), str(tmp_path / "empty"))["images"] == 24


def test_what_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no dataset\.json"):
        export(str(tmp_path), str(tmp_path / "pairs"))
    assert files(tmp_path) == []


@pytest.mark.parametrize("damage", ["missing", "truncated", "truncated between members", "changed"])
def test_a_failure_leaves_nothing_behind(finished: World, tmp_path: Path, damage: str) -> None:
    tar = finished.out.local_path("shards/train-000002.tar")
    if damage == "missing":
        tar.unlink()
    elif damage == "changed":
        tar.write_bytes(b"x" * tar.stat().st_size)
    else:
        with tarfile.open(tar) as file:
            last = file.getmembers()[-1].offset
        tar.write_bytes(tar.read_bytes()[: last if "between" in damage else last - 100])
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"train-000002.*verify-dataset"):
        export(str(finished.out.uri), str(tmp_path / "pairs"))
    assert sorted(tmp_path.iterdir()) == before


def two_sources(pack: Path, tmp_path: Path, *folders: tuple[str, str, str]) -> Path:
    """A dataset of folders (source, folder, layout), each with photos of a person of its own."""
    sources = []
    for person, (source, folder, layout) in enumerate(folders):
        (tmp_path / source / folder).mkdir(parents=True, exist_ok=True)
        for number in range(3):
            photo(person, number).save(tmp_path / source / folder / f"{number}.jpg", quality=92)
        entry = {"path": str(tmp_path / source), "layout": layout}
        if entry not in sources:
            sources.append(entry)
    world("", pack, tmp_path / "out", sources=sources).build()
    return tmp_path / "out"


def folders_of(pairs: Path) -> dict[str, int]:
    return {folder.name: len(list(folder.glob("*.jpg"))) for folder in sorted(pairs.iterdir())}


def test_equal_folder_names_of_two_sources(pack: Path, tmp_path: Path) -> None:
    folders = (("one", "p", "identities"), ("two", "p", "identities"), ("two", "q", "identities"))
    counts = export(str(two_sources(pack, tmp_path, *folders)), str(tmp_path / "pairs"))
    assert counts == {"images": 9, "masks": 0, "identities": 3}
    assert folders_of(tmp_path / "pairs") == {"one-p": 3, "q": 3, "two-p": 3}


def test_no_two_people_ever_share_a_folder(pack: Path, tmp_path: Path) -> None:
    """Names that would meet: of a renamed folder and another folder, of a person and a source of unknown people."""
    folders = (
        ("one", "p", "identities"),
        ("two", "p", "identities"),
        ("two", "one-p", "identities"),
        ("two", "flat", "identities"),
        ("flat", ".", "flat"),
    )
    export(str(two_sources(pack, tmp_path, *folders)), str(tmp_path / "pairs"))
    found = folders_of(tmp_path / "pairs")
    assert sorted(found.values()) == [3] * 5, found


def test_unknown_people_share_a_folder_without_metainfo(pack: Path, tmp_path: Path) -> None:
    out = two_sources(pack, tmp_path, ("ffhq", ".", "flat"))
    assert export(str(out), str(tmp_path / "pairs")) == {"images": 3, "masks": 0, "identities": 0}
    assert folders_of(tmp_path / "pairs") == {"ffhq": 3}
    assert not list((tmp_path / "pairs").rglob("metainfo.json"))


def test_rejected_identities_have_no_folder(pack: Path, tmp_path: Path) -> None:
    folder = make_photos(tmp_path / "photos", people=2, each=3)
    (folder / "person-01/002.jpg").unlink()
    world(folder, pack, tmp_path / "out").build()
    export(str(tmp_path / "out"), str(tmp_path / "pairs"))
    assert folders_of(tmp_path / "pairs") == {"person-00": 3}


def test_unicode_names(pack: Path, tmp_path: Path) -> None:
    out = two_sources(pack, tmp_path, ("фото", "名前 と b", "identities"))
    export(str(out), str(tmp_path / "pairs"))
    assert folders_of(tmp_path / "pairs") == {"名前 と b": 3}


def test_to_and_from_an_object_store(made: Path, tmp_path: Path, s3: Callable[[], str]) -> None:
    bucket = s3()
    assert export(str(made), f"{bucket}/pairs") == {"images": 24, "masks": 24, "identities": 4}
    export(str(made), str(tmp_path / "pairs"))
    for name in files(tmp_path / "pairs"):
        assert Storage(f"{bucket}/pairs").read_bytes(name) == (tmp_path / "pairs" / name).read_bytes()
    with pytest.raises(ValueError, match="is not empty"):
        export(str(made), f"{bucket}/pairs")
