"""`adaface render-faces`: the files are what the truth says, the same ones every time, and all there or none."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps, UnidentifiedImageError

from adaface.miniature.album import write as album_module
from adaface.miniature.album.faults import PICTURES
from adaface.miniature.album.names import unused
from adaface.miniature.album.photo_file import Jpeg, upright
from adaface.miniature.album.plan import FAULTS, FLAT_FAULTS, AlbumSize, plan_album
from adaface.miniature.album.write import read_truth, write_album
from adaface.miniature.world.identity import Identity
from adaface.miniature.world.scene import Nuisance, Scene
from adaface.perception.classes import CLASS_NAMES
from data_pipeline.config import DataConfig
from data_pipeline.sources import list_images
from flows.cli import main

SIZE = AlbumSize(identities=5, images=9, faults=0.45, flat=12, seed=3)


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rendered") / "album"
    write_album(folder, SIZE)
    return folder


@pytest.fixture(scope="module")
def truth(album: Path) -> list[dict]:
    return read_truth(album)


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_equal_numbers_give_equal_bytes_and_another_seed_other_people(tmp_path):
    size = AlbumSize(identities=2, images=3, faults=0.34, flat=2, seed=7)
    for name in ("a", "b"):
        write_album(tmp_path / name, size)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    first, other = (next(iter(plan_album(AlbumSize(2, 3, 0.34, 2, seed)))).identity for seed in (7, 8))
    assert first != other


def test_every_file_has_a_row_and_every_row_a_file(album, truth):
    photos = {str(path.relative_to(album)) for name in ("people", "flat") for path in (album / name).rglob("*.*")}
    assert sorted(row["path"] for row in truth) == sorted(photos)
    assert len(photos) == SIZE.files == 5 * 9 + 12
    assert sorted(path.name for path in album.iterdir()) == ["about.json", "flat", "people", "truth", "truth.jsonl"]
    about = json.loads((album / "about.json").read_text())
    assert about["format"] == "adaface-album/1" and about["seed"] == 3 and about["files"] == SIZE.files
    assert about["kinds"] == dict(sorted(Counter(row["kind"] for row in truth).items()))
    assert Counter(row["folder"] for row in truth if row["folder"]).most_common()[-1][1] == 9


def test_the_share_of_faults_is_spread_over_kinds_and_folders(truth):
    kinds = Counter(row["kind"] for row in truth)
    assert set(kinds) == {"good", *FAULTS}
    assert sum(kinds.values()) - kinds["good"] == pytest.approx(0.45 * SIZE.files, abs=1.5)
    assert max(kinds[kind] for kind in FAULTS) - min(kinds[kind] for kind in FAULTS) <= 2
    of_folder = Counter(row["folder"] for row in truth if row["kind"] != "good" and row["folder"])
    assert set(of_folder.values()) == {4}
    assert {row["kind"] for row in truth if row["folder"] is None} <= {"good", *FLAT_FAULTS}


def test_the_truth_describes_the_picture(album, truth):
    maps = 0
    for row in truth:
        data = (album / row["path"]).read_bytes()
        if row["kind"] == "broken":
            assert row["class_map"] is None and row["width"] is None and row["faces"] == []
            with pytest.raises((OSError, UnidentifiedImageError)):
                Image.open(io.BytesIO(data)).load()
            continue
        with Image.open(io.BytesIO(data)) as image:
            assert image.format == "JPEG"
            assert image.getexif().get(0x0112, 1) == row["jpeg"]["orientation"]
            assert ImageOps.exif_transpose(image).size == (row["width"], row["height"])
        assert 160 <= min(row["width"], row["height"]) <= 512
        classes = cv2.imread(str(album / row["class_map"]), cv2.IMREAD_UNCHANGED)
        maps += 1
        assert classes.shape == (row["height"], row["width"]) and classes.max() < len(CLASS_NAMES)
        assert len(row["faces"]) == {"no_face": 0, "several_people": 2}.get(row["kind"], 1)
        assert (classes == 0).all() == (row["kind"] == "no_face")
        for face in row["faces"]:
            x0, y0, x1, y1 = face["box"]
            assert -1 <= x0 < x1 <= row["width"] + 1 and y0 < y1 <= row["height"] + 1
            assert len(face["landmarks"]) == 5
        if row["faces"]:
            Identity(**row["identity"]), Scene(**row["scene"]), Nuisance(**row["nuisance"])
    assert maps == len(list((album / "truth").rglob("*.png")))


def test_pixels_lie_where_the_class_map_says(album, truth):
    """Stored turned or not: the lips of a good photo are redder than the skin around them."""
    turned = [row for row in truth if row["kind"] == "good" and row["jpeg"]["orientation"] != 1]
    assert turned, "a quarter of the files is stored turned"
    women = [row for row in truth if row["kind"] == "good" and row["identity"]["female"]]
    for row in {row["path"]: row for row in (*turned, *women[:5])}.values():
        image = upright((album / row["path"]).read_bytes()).astype(float)
        classes = cv2.imread(str(album / row["class_map"]), cv2.IMREAD_UNCHANGED)
        red = image[..., 0] - image[..., 1]
        lips = np.isin(classes, [CLASS_NAMES.index("u_lip"), CLASS_NAMES.index("l_lip")])
        assert red[lips].mean() > red[classes == CLASS_NAMES.index("skin")].mean()


def test_faults_of_files_are_what_they_are_called(album, truth):
    by_path = {row["path"]: row for row in truth}
    for row in truth:
        if row["kind"] == "wrong_person":
            assert row["person"] != row["folder"]
        elif row["folder"] and row["faces"]:
            assert row["person"] == row["folder"]
        if row["copy_of"] is None:
            assert "duplicate" not in row["kind"]
            continue
        original = by_path[row["copy_of"]]
        same = (album / row["path"]).read_bytes() == (album / original["path"]).read_bytes()
        assert same == (row["kind"] == "exact_duplicate")
        assert (
            original["kind"] == "good" and original["folder"] == row["folder"] and original["person"] == row["person"]
        )
        ours, theirs = (upright((album / each["path"]).read_bytes()) for each in (row, original))
        close = cv2.resize(ours, theirs.shape[1::-1]).astype(float) - theirs
        assert np.abs(close).mean() < 6
    variants = {row["fault"]["variant"] for row in truth if row["kind"] == "broken"}
    assert variants <= {"truncated", "empty", "text"}


def test_the_pipeline_lists_both_folders_as_sources(album, truth):
    sources = [{"path": str(album / "people")}, {"path": str(album / "flat"), "layout": "flat"}]
    listing = list_images(DataConfig(sources=sources, output=str(album.parent / "out")))
    assert {Path(image.path).relative_to(album).as_posix() for image in listing.images} == {r["path"] for r in truth}
    people = {row["folder"] for row in truth if row["folder"]}
    assert {image.identity for image in listing.images} == {None, *(f"people/{name}" for name in people)}
    assert not listing.ignored


def test_the_share_in_a_studio_changes_nothing_but_the_scenes(tmp_path):
    def rows(studio: float) -> list[dict]:
        folder = tmp_path / str(studio)
        write_album(folder, AlbumSize(identities=3, images=8, faults=0.25, flat=6, seed=5, studio=studio))
        return read_truth(folder)

    none, some, every = rows(0.0), rows(0.5), rows(1.0)
    plain = vars(Scene())
    in_studio = [[row["scene"] == plain for row in rows_ if row["kind"] == "good"] for rows_ in (none, some, every)]
    assert sum(in_studio[0]) <= 1 and 0.2 < sum(in_studio[1]) / len(in_studio[1]) < 0.8 and all(in_studio[2])
    for rows_ in (some, every):
        for before, row in zip(none, rows_, strict=True):
            assert [row[name] for name in ("path", "person", "kind", "identity", "jpeg")] == [
                before[name] for name in ("path", "person", "kind", "identity", "jpeg")
            ]


def test_the_strangers_of_the_flat_folder_are_all_different(truth):
    people = [row["person"] for row in truth if row["folder"] is None and row["person"] and not row["copy_of"]]
    assert len(set(people)) == len(people)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"identities": 0, "images": -1, "faults": 0.9}, ["identities must be", "images must be", "faults must be"]),
        ({"faults": float("nan")}, ["faults must be a share from 0 to 0.5, got nan"]),
        ({"images": 1}, ["at least 2 images"]),
        ({"flat": -1, "seed": -5}, ["flat must be", "seed must be"]),
        ({"identities": 10**6}, ["more than the 1,000,000"]),
    ],
)
def test_impossible_numbers_are_all_named_at_once(numbers, words):
    with pytest.raises(ValueError, match="no album can be made") as error:
        AlbumSize(**{"identities": 2, "images": 3, "faults": 0.3, "flat": 0, **numbers})
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("faults", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("images", [2, 3, 10])
@pytest.mark.parametrize("flat", [0, 1, 2, 25])
def test_any_album_can_be_planned(faults, images, flat):
    photos = list(plan_album(AlbumSize(identities=7, images=images, faults=faults, flat=flat)))
    assert len(photos) == 7 * images + flat
    assert len({photo.path.casefold() for photo in photos}) == len(photos)
    for folder in {photo.folder for photo in photos}:
        assert any(photo.kind == "good" for photo in photos if photo.folder == folder)


def test_a_thousand_people_have_a_thousand_folders():
    assert len({photo.folder.casefold() for photo in plan_album(AlbumSize(1000, 1, 0, 0))}) == 1000
    taken = {"photo.jpg", "photo 2.jpg"}
    assert unused("Photo", ".jpg", taken) == "Photo 3.jpg" and "photo 3.jpg" in taken


def test_what_is_there_is_left_alone(album, tmp_path, capsys):
    before = digests(album)
    arguments = ["--identities", "2", "--images", "2", "--faults", "0"]
    assert main(["render-faces", str(album), *arguments]) == 2
    assert "is there already" in capsys.readouterr().err and digests(album) == before
    (tmp_path / "file").touch()
    assert main(["render-faces", str(tmp_path / "file"), *arguments]) == 2
    (tmp_path / "empty").mkdir()
    assert main(["render-faces", str(tmp_path / "empty"), *arguments]) == 0
    said = capsys.readouterr()
    assert "good" in said.out and "8 of 8 photos, 0 s left" in said.err
    assert main(["render-faces", str(tmp_path / "no"), "--identities", "0", "--images", "2", "--faults", "7"]) == 2
    assert "identities must be" in capsys.readouterr().err and not (tmp_path / "no").exists()


def test_an_album_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    def fails(*_: object) -> None:
        raise OSError("no space left")

    (tmp_path / "album.partial" / "left over").mkdir(parents=True)
    monkeypatch.setattr(album_module, "class_map", fails)
    with pytest.raises(OSError, match="no space"):
        write_album(tmp_path / "album", AlbumSize(1, 2, 0, 0))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="not an album"):
        read_truth(tmp_path)


@pytest.mark.parametrize("kind", PICTURES)
def test_a_picture_is_a_function_of_person_and_seed(kind):
    person = Identity.sample(np.random.default_rng(1))
    first, again, other = (PICTURES[kind](person, np.random.default_rng(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.classes, again.classes)
    assert first.image.shape != other.image.shape or (first.image != other.image).any()
    assert first.image.dtype == np.uint8 and first.image.shape[:2] == first.classes.shape


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_file_stored_turned_is_looked_at_upright(orientation):
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:24, :40] = 255, 0, 0
    data = Jpeg(95, 0, orientation=orientation, make="Lumen", model="X1").encode(picture)
    assert np.abs(upright(data).astype(int) - picture).mean() < 2
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == ((96, 64) if orientation in (1, 3) else (64, 96))
        assert image.getexif()[0x010F] == "Lumen"
    assert "exif" not in Image.open(io.BytesIO(Jpeg(80).encode(picture))).info
