"""Subjects: which photos, who says what they show, and refusals before anything is drawn."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from adaface.evaluation.config import SubjectsConfig
from adaface.evaluation.subjects import check_faces, find_subjects, read_mean_embedding, read_references
from adaface.miniature.render import render
from adaface.miniature.world.identity import Identity
from adaface.miniature.world.scene import Nuisance, Scene
from adaface.perception.config import PerceptionConfig
from adaface.perception.faces import FaceAnalyser
from tests.tiny_world import SIDE, make_pack, make_photos


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """person-00, person-01, person-02 with 4 photos each."""
    return make_photos(tmp_path / "people", people=3, each=4)


@pytest.fixture(scope="module")
def tiny_faces(tmp_path_factory: pytest.TempPathFactory) -> FaceAnalyser:
    """Sees a face in everything that is not black; knows neither gender nor age."""
    pack = make_pack(tmp_path_factory.mktemp("pack"))
    return FaceAnalyser(PerceptionConfig(pack=str(pack), detector_sizes=(SIDE,), border=0))


@pytest.fixture(scope="module")
def faces() -> FaceAnalyser:
    return FaceAnalyser(PerceptionConfig(pack="package://adaface.miniature/weights/pack", detector_sizes=(160,)))


def sections(folder: Path, **changes: object) -> SubjectsConfig:
    return SubjectsConfig.model_validate({"folder": str(folder), **changes})


def black(file: Path, width: int = 96, height: int = 96) -> None:
    Image.new("RGB", (width, height)).save(file)


def test_photos_by_name_and_no_masks(people):
    folder = people / "person-01"
    black(folder / "000_mask.png")
    black(folder / "a.PNG")
    black(folder / ".hidden.jpg")
    (folder / "notes.txt").write_text("x")
    (people / ".cache").mkdir()
    (people / "readme.md").write_text("x")
    subjects = find_subjects(sections(people))
    assert [subject.name for subject in subjects] == ["person-00", "person-01", "person-02"]
    assert [photo.name for photo in subjects[1].photos] == ["000.jpg", "001.jpg", "002.jpg", "003.jpg", "a.PNG"]


def test_what_the_methods_are_shown(people):
    every, some, few = (find_subjects(sections(people, **change))[0] for change in ({}, {"given": 3}, {"given": 9}))
    assert every.given == (0, 1, 2, 3) and every.held_back == ()
    assert some.given == (0, 1, 2) and some.held_back == (3,)
    assert few.given == (0, 1, 2, 3)
    (two, *_) = find_subjects(sections(people, given=1, max_photos=2))
    assert len(two.photos) == 2 and two.held_back == (1,)


def test_a_choice_of_names(people):
    chosen = find_subjects(sections(people, names=["person-02", "person-00"]))
    assert [subject.name for subject in chosen] == ["person-00", "person-02"]


def test_who_says_the_person_type(people):
    (people / "person-00" / "metainfo.json").write_text(json.dumps({"person_type": "young  woman", "age": 20}))
    (people / "person-01" / "metainfo.json").write_text(json.dumps({"person_type": "woman"}))
    info = {"person-01": {"person_type": "dog", "class_word": "brown dog"}}
    told, corrected, unknown = find_subjects(sections(people, info=info))
    assert (told.person_type, told.class_word, told.type_from) == ("young woman", "young woman", "metainfo.json")
    assert (corrected.person_type, corrected.class_word, corrected.type_from) == ("dog", "brown dog", "info")
    assert (unknown.person_type, unknown.class_word, unknown.type_from) == ("person", "person", "nobody")


def test_all_problems_are_told_at_once(people):
    (people / "person-00" / "metainfo.json").write_text("{")
    (people / "person-01" / "metainfo.json").write_text('{"person_type": 3}')
    (people / "empty").mkdir()
    black(people / "empty" / "a_mask.png")
    (people / "nested" / "more").mkdir(parents=True)
    with pytest.raises(ValueError) as raised:
        find_subjects(sections(people, info={"persn-02": {"person_type": "man"}}))
    found = str(raised.value).splitlines()
    assert len(found) == 5
    for start, sentence in (
        ("subjects.info: there is no folder 'persn-02'", "did you mean 'person-02'?"),
        ("subject empty:", "no photos in this folder"),
        ("subject nested:", "name one of the 1 folders in it"),
        ("subject person-00:", "cannot be read"),
        ("subject person-01:", "`person_type` must be a word such as woman, not 3"),
    ):
        assert sum(line.startswith(start) and sentence in line for line in found) == 1, start


def test_a_folder_that_is_none(people, tmp_path):
    with pytest.raises(ValueError, match=r"nowhere does not exist; give a folder with one sub-folder"):
        find_subjects(sections(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"is a file"):
        find_subjects(sections(people / "person-00" / "000.jpg"))
    with pytest.raises(ValueError, match=r"has no sub-folders"):
        find_subjects(sections(people / "person-00"))
    with pytest.raises(ValueError, match=r"there is no folder 'persona'.*did you mean"):
        find_subjects(sections(people, names=["persona"]))


# Photos


def test_references_are_turned_and_made_smaller(tmp_path):
    folder = tmp_path / "people" / "anna"
    folder.mkdir(parents=True)
    stripes = np.zeros((120, 240, 3), np.uint8)
    stripes[:, ::2] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.fromarray(stripes).save(folder / "a.png", exif=exif)
    black(folder / "b.png", 40, 30)
    Image.fromarray(np.full((50, 50, 4), (9, 9, 9, 0), np.uint8)).save(folder / "c.png")
    (anna,) = find_subjects(sections(folder.parent))
    whole = read_references(anna)
    assert [photo.shape for photo in whole] == [(240, 120, 3), (30, 40, 3), (50, 50, 3)]
    assert all(photo.dtype == np.uint8 for photo in whole) and (whole[2] == 255).all()
    small = read_references(anna, side=32)
    assert [photo.shape for photo in small] == [(64, 32, 3), (30, 40, 3), (32, 32, 3)]
    assert abs(small[0].astype(float) - 127.5).max() < 16  # smoothed: nearest would leave black and white


def test_photos_that_cannot_be_read_are_all_named(people):
    (people / "person-00" / "000.jpg").write_bytes(b"no picture")
    whole = (people / "person-00" / "002.jpg").read_bytes()
    (people / "person-00" / "002.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError) as raised:
        read_references(find_subjects(sections(people))[0])
    lines = str(raised.value).splitlines()
    assert len(lines) == 2 and "000.jpg: not an image" in lines[0] and "002.jpg: cannot be read" in lines[1]


# Faces


def test_subjects_without_a_face_are_refused(people, tiny_faces):
    for number in range(4):
        black(people / "person-00" / f"{number:03d}.jpg")
    for number in range(2):
        black(people / "person-02" / f"{number:03d}.jpg")
    (people / "person-01" / "003.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError) as raised:
        check_faces(find_subjects(sections(people, given=2)), tiny_faces)
    nobody, broken, hidden = str(raised.value).splitlines()
    assert nobody.startswith("subject person-00: no face was found in any of the 2 photos that the methods are shown;")
    assert broken.startswith("subject person-01:") and "003.jpg" in broken
    assert hidden.startswith("subject person-02: no face was found")
    (people / "person-01" / "003.jpg").unlink()
    names = ["person-01", "person-02"]
    known = check_faces(find_subjects(sections(people, names=names)), tiny_faces)
    assert [(subject.name, subject.class_word) for subject in known] == [(name, "person") for name in names]


def test_the_face_pack_says_what_nobody_said(tmp_path, faces):
    """Rendered people, of whom the renderer knows what they are."""
    rng = np.random.default_rng(7)
    for number in range(4):
        identity = Identity.sample(rng)
        folder = tmp_path / "people" / f"{number}-{identity.class_word}"
        folder.mkdir(parents=True)
        for shot in range(3):
            picture = render(identity, Scene(), Nuisance.sample(rng), size=128)
            Image.fromarray(picture.image).save(folder / f"{shot}.png")
    found = find_subjects(sections(tmp_path / "people", info={}))
    known = check_faces(found, faces, side=64)
    assert [subject.type_from for subject in known] == ["face pack"] * 4
    right = [subject.class_word == subject.name.partition("-")[2] for subject in known]
    assert sum(right) >= 3, [(subject.name, subject.class_word) for subject in known]
    with pytest.raises(ValueError, match="scaled down to 16 px; raise"):
        check_faces(found, faces, side=16)


# Mean embeddings


def test_mean_embeddings_of_all_formats(tmp_path):
    row = np.random.default_rng(0).normal(size=512).astype(np.float32)
    np.save(tmp_path / "a.npy", row)
    save_file({"mean": row[None]}, tmp_path / "b.safetensors")
    torch.save(torch.from_numpy(row)[None].half(), tmp_path / "c.pt")
    for name in ("a.npy", "b.safetensors", "c.pt"):
        read = read_mean_embedding(tmp_path / name)
        assert read.shape == (512,) and read.dtype == np.float32 and np.linalg.norm(read) == pytest.approx(1, abs=1e-6)
        assert read @ row / np.linalg.norm(row) == pytest.approx(1, abs=1e-5)


class _Evil:
    def __reduce__(self):
        return (print, ("EXECUTED",))


def test_files_that_hold_no_mean_embedding(tmp_path, capsys):
    np.save(tmp_path / "two.npy", np.ones((2, 8), np.float32))
    np.save(tmp_path / "zero.npy", np.zeros(8, np.float32))
    np.save(tmp_path / "number.npy", np.float32(1))
    np.save(tmp_path / "words.npy", np.array(["a", "b"]))
    np.save(tmp_path / "object.npy", np.array([_Evil()], dtype=object), allow_pickle=True)
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(_Evil(), protocol=2))
    torch.save({"mean": _Evil()}, tmp_path / "evil-zip.pt")
    torch.save({"mean": torch.ones(4)}, tmp_path / "dict.pt")
    (tmp_path / "text.safetensors").write_text("x" * 100)
    (tmp_path / "large.npy").write_bytes(b"x" * (1 << 21))
    with zipfile.ZipFile(tmp_path / "zip.pt", "w") as archive:
        archive.writestr("x", "y")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 11
    for name in names:
        with pytest.raises(ValueError, match=name):
            read_mean_embedding(tmp_path / name)
    assert "EXECUTED" not in capsys.readouterr().out


def test_a_mean_embedding_is_only_taken_where_it_is_asked_for(people):
    np.save(people / "person-00" / "mean_emb.npy", np.ones(4, np.float32))
    assert find_subjects(sections(people))[0].mean_embedding is None
    names = ["person-00"]
    (asked,) = find_subjects(sections(people, mean_embedding=True, names=names))
    assert asked.mean_embedding == people / "person-00" / "mean_emb.npy" and len(asked.photos) == 4
    with pytest.raises(ValueError, match=r"subject person-01: no mean embedding in .*person-01"):
        find_subjects(sections(people, mean_embedding=True))


# Real photos


def test_the_photos_beside_the_checkout(shared):
    subjects = {subject.name: subject for subject in find_subjects(sections(shared / "faces"))}
    assert len(subjects) == 14
    assert not any(photo.name.endswith("_mask.png") for subject in subjects.values() for photo in subject.photos)
    assert sum(len(subject.photos) for subject in subjects.values()) >= 130
    assert subjects["caradelevingne"].class_word == "young woman" and subjects["donnieyen"].class_word == "man"
    assert subjects["lilbub"].type_from == "nobody"  # the cat
    asked = sections(shared / "faces", mean_embedding=True, names=["lisa", "jaychou"])
    lisa, jay = (read_mean_embedding(subject.mean_embedding) for subject in find_subjects(asked))
    assert lisa.shape == (512,) and abs(float(lisa @ jay)) < 0.2
