"""Methods that know who an album's people are, the renderer and the base model told names, by measures that do not."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest

from adaface.evaluation.config import EntryPointConfig, GenerationConfig
from adaface.evaluation.methods.base import Request
from adaface.evaluation.methods.open import open_method
from adaface.evaluation.prompts import Prompt
from adaface.evaluation.subjects import Subject
from adaface.miniature.album.plan import AlbumSize
from adaface.miniature.album.write import read_truth, write_album
from adaface.miniature.measure.found_faces import FaceReader
from adaface.miniature.measure.generators import identity_rows
from adaface.miniature.scene_reader import SceneReader
from adaface.miniature.shipped import WEIGHTS

RENDERED = "adaface.miniature.rendered_people:RenderedPeople"
NAMED = "adaface.miniature.named_people:NamedPeople"
SCENES = [{"place": "beach", "headwear": "hat"}, {"style": "pencil sketch"}, {"light": "neon"}, {}]


def requests(*scenes: dict[str, str]) -> list[Request]:
    return [
        Request(Prompt(f"p{number}", "any", "a photo of a {}", expects), "woman", seed)
        for number, expects in enumerate(scenes)
        for seed in range(4)
    ]


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rendered") / "album"
    write_album(folder, AlbumSize(identities=3, images=3, faults=0, flat=0, seed=4))
    return folder


@pytest.fixture(scope="module")
def subjects(album):
    found = []
    for folder in sorted((album / "people").iterdir()):
        photos = tuple(sorted(folder.iterdir()))
        found.append(Subject(folder.name, photos, given=(0,), person_type="person", class_word="person"))
    return found


def opened(entry_point: str):
    generation = GenerationConfig(
        base="package://adaface.miniature/weights/sd", negative_prompt=None, clip_skip_weights=None, steps=12
    )
    return open_method(EntryPointConfig(kind="entry_point", name="known", entry_point=entry_point), generation)


@pytest.fixture(scope="module")
def method():
    return opened(RENDERED)


def test_the_scene_is_the_one_that_was_asked_for(method, subjects):
    person = method.prepare(subjects[0], [], np.zeros((1, 64), np.float32))
    asked = requests(*SCENES)
    pictures = method.draw(person, asked)
    assert {picture.shape for picture in pictures} == {(64, 64, 3)}
    seen = SceneReader()(pictures)
    right = [
        seen[factor][row] == word for row, each in enumerate(asked) for factor, word in each.prompt.expects.items()
    ]
    assert np.mean(right) >= 0.9
    again = method.draw(person, asked[5:6])[0]
    assert np.abs(again.astype(int) - pictures[5]).max() <= 1  # whatever else was in the batch


def test_it_is_the_person_of_the_folder(method, album, subjects):
    truth = {row["folder"]: row["identity"] for row in read_truth(album) if row["folder"] == row["person"]}
    people = [method.prepare(subject, [], np.zeros((1, 64), np.float32)) for subject in subjects]
    assert [asdict(person) for person in people] == [truth[subject.name] for subject in subjects]
    first, second = (method.draw(person, requests({})[:1])[0].astype(int) for person in people[:2])
    assert np.abs(first - second).mean() > 5


def test_who_is_not_of_an_album_is_refused(method, subjects, tmp_path):
    stranger = replace(subjects[0], photos=(tmp_path / "people" / "Mallory" / "one.jpg",))
    with pytest.raises(ValueError, match=r"does not say who that is.*render-faces"):
        method.prepare(stranger, [], np.zeros((1, 64), np.float32))
    renamed = replace(subjects[0], name="Mallory")
    with pytest.raises(ValueError, match="subject Mallory"):
        method.prepare(renamed, [], np.zeros((1, 64), np.float32))


def test_what_no_scene_has_is_refused(method, subjects):
    person = method.prepare(subjects[0], [], np.zeros((1, 64), np.float32))
    with pytest.raises(ValueError, match="expects weather; a scene has place, clothing"):
        method.draw(person, requests({"weather": "rain"}))
    with pytest.raises(ValueError, match="unknown place `moon`"):
        method.draw(person, requests({"place": "moon"}))


def test_the_base_model_draws_whom_it_is_told_by_name(method, subjects):
    named, nobody = opened(NAMED), np.zeros((1, 64), np.float32)
    asked = requests({}, {"place": "beach"})
    asked = [
        replace(each, prompt=replace(each.prompt, text="a photo of a {} on the beach"))
        if each.prompt.expects
        else each
        for each in asked
    ]
    references, drawn = [], []
    for subject in subjects:
        references.append(method.draw(method.prepare(subject, [], nobody), requests({})[:1])[0])
        drawn.append(named.draw(named.prepare(subject, [], nobody), asked))
    numbers = identity_rows(FaceReader(WEIGHTS), np.stack(references), np.stack(drawn), "named")
    assert numbers["named_pack_gap"] > 0.5 and numbers["named_judge_gap"] > 0.5, numbers
    places = [place for pictures in drawn for place in SceneReader()(pictures[4:])["place"]]
    assert np.mean([place == "beach" for place in places]) > 0.8
    assert len({named.prepare(subject, [], nobody) for subject in subjects}) == len(subjects)
