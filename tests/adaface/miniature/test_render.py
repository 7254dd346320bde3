"""Pictures and their ground truth."""

from dataclasses import replace

import numpy as np
import pytest

from adaface.miniature.render import Sitter, grid, render, render_people
from adaface.miniature.world.identity import CLASS_WORDS, Identity
from adaface.miniature.world.scene import VOCABULARY, Nuisance, Scene
from adaface.perception.classes import CLASS_NAMES

ID = {name: index for index, name in enumerate(CLASS_NAMES)}


def people(count: int) -> list[Identity]:
    rng = np.random.default_rng(5)
    return [Identity.sample(rng) for _ in range(count)]


def test_equal_arguments_give_equal_pixels_and_a_seed_changes_them():
    person, scene = people(1)[0], Scene(place="city", style="oil painting")
    one, two = (render(person, scene, Nuisance(seed=3)) for _ in range(2))
    assert np.array_equal(one.image, two.image) and np.array_equal(one.classes, two.classes)
    assert not np.array_equal(one.image, render(person, scene, Nuisance(seed=4)).image)


@pytest.mark.parametrize("size", [32, 64, 96, 200, 256])
def test_sizes_show_the_same_picture(size: int):
    person, pose = people(1)[0], Nuisance(yaw=0.2, seed=1)
    picture, large = render(person, Scene(), pose, size), render(person, Scene(), pose, 512)
    assert picture.image.shape == (size, size, 3) and picture.image.dtype == np.uint8
    assert picture.classes.shape == (size, size) and picture.classes.max() <= 18
    # ground truth scales with the picture
    np.testing.assert_allclose(picture.landmarks / size, large.landmarks / 512, atol=0.01)
    np.testing.assert_allclose(picture.box / size, large.box / 512, atol=0.01)
    shares = [np.bincount(p.classes.ravel(), minlength=19) / p.classes.size for p in (picture, large)]
    assert np.abs(shares[0] - shares[1]).max() < 0.02


@pytest.mark.parametrize("size", [0, 15, 4096, 64.0, None])
def test_an_impossible_size_is_refused(size: object):
    with pytest.raises(ValueError, match=r"must be an integer in 16\.\.2048 px"):
        render(people(1)[0], Scene(), Nuisance(), size)


def test_unknown_words_are_refused_all_at_once_with_the_nearest_known_one():
    with pytest.raises(ValueError, match=r"unknown place `bech`: did you mean `beach`.*unknown headwear `helm`"):
        Scene(place="bech", headwear="helm")


def test_factors_out_of_range_are_refused_all_at_once():
    person = people(1)[0]
    with pytest.raises(ValueError, match=r"jaw must lie in -1..1, got 1.5; beard must be an integer in 0..3, got 9"):
        replace(person, jaw=1.5, beard=9)
    with pytest.raises(ValueError, match="yaw must lie in"):
        Nuisance(yaw=3)


def test_landmarks_lie_on_the_features_that_they_name():
    for index, person in enumerate(people(40)):
        picture = render(person, Scene(), Nuisance(smile=0.2, mouth_open=0.3, seed=index), 256)
        at = [picture.classes[round(float(y)), round(float(x))] for x, y in picture.landmarks]
        # the subject's own right eye is on the left of the picture
        assert at[0] == ID["r_eye"] and at[1] == ID["l_eye"]
        assert picture.landmarks[0, 0] < picture.landmarks[1, 0]
        mouth = np.argwhere(np.isin(picture.classes, [ID["mouth"], ID["u_lip"], ID["l_lip"]]))
        left, right = mouth[:, 1].min(), mouth[:, 1].max()
        assert abs(picture.landmarks[3, 0] - left) < 6 and abs(picture.landmarks[4, 0] - right) < 6
        nose = np.argwhere(picture.classes == ID["nose"])
        assert np.linalg.norm(nose[:, ::-1] - picture.landmarks[2], axis=1).min() < 3


def test_the_box_holds_the_skin():
    for index, person in enumerate(people(30)):
        bald = replace(person, beard=0)
        picture = render(bald, Scene(), Nuisance(seed=index, roll=0.1), 128)
        y, x = np.nonzero(picture.classes == ID["skin"])
        x0, y0, x1, y1 = picture.box
        assert x0 - 2 <= x.min() and x.max() <= x1 + 2 and y0 - 2 <= y.min() and y.max() <= y1 + 2


def test_a_turn_moves_the_nose_to_the_side_it_says():
    person = people(1)[0]
    left, right = (render(person, Scene(), Nuisance(yaw=yaw), 256).landmarks for yaw in (-0.4, 0.4))
    assert left[2, 0] < left[:2, 0].mean() and right[2, 0] > right[:2, 0].mean()


def test_a_profile_shows_one_eye():
    classes = render(people(1)[0], Scene(), Nuisance(yaw=1.2), 256).classes
    # the nose points to the right of the picture: the subject's left eye is behind it
    assert (classes == ID["r_eye"]).any() and not (classes == ID["l_eye"]).any()


@pytest.mark.parametrize(("word", "part"), [("hat", "hat"), ("crown", "hat"), ("helmet", "hat"), ("glasses", "eye_g")])
def test_what_is_worn_is_in_the_class_map(word: str, part: str):
    field = "eyewear" if part == "eye_g" else "headwear"
    person = people(1)[0]
    with_it = render(person, Scene(**{field: word}), Nuisance(), 128).classes
    assert (with_it == ID[part]).sum() > 50
    assert not (render(person, Scene(), Nuisance(), 128).classes == ID[part]).any()


def test_every_word_changes_the_picture():
    person = people(3)[2]
    plain = render(person, Scene(), Nuisance(seed=2)).image.astype(int)
    for field, words in VOCABULARY.items():
        for word in words[1:]:
            changed = render(person, Scene(**{field: word}), Nuisance(seed=2)).image.astype(int)
            assert np.abs(changed - plain).mean() > 1, (field, word)


def test_people_of_all_six_class_words_occur_and_differ():
    crowd = people(200)
    assert {person.class_word for person in crowd} == set(CLASS_WORDS)
    images = np.array([render(person, Scene(), Nuisance(seed=1)).image.astype(int) for person in crowd[:30]])
    distances = np.abs(images[:, None] - images[None]).mean((2, 3, 4))[~np.eye(30, dtype=bool)]
    assert distances.min() > 2


def test_several_people_in_one_picture():
    one, two = people(2)
    poses = [Nuisance(scale=0.15, dx=dx) for dx in (-0.25, 0.25)]
    picture = render_people(
        [Sitter(one, Scene(), poses[0]), Sitter(two, Scene(headwear="crown"), poses[1])],
        Scene(place="garden"), Nuisance(), 120, 200,
    )  # fmt: skip
    assert picture.image.shape == (120, 200, 3) and len(picture.faces) == 2
    assert picture.faces[0].box[2] < picture.faces[1].box[0]
    assert (picture.classes[:, 100:] == ID["hat"]).any() and not (picture.classes[:, :100] == ID["hat"]).any()


def test_nobody_leaves_an_empty_class_map():
    picture = render_people([], Scene(place="beach"), Nuisance(), 64, 96)
    assert not picture.classes.any() and picture.faces == ()


def test_a_grid_holds_its_pictures_where_they_belong():
    images = [np.full((4, 5, 3), value, np.uint8) for value in (10, 20, 30)]
    sheet = grid(images, columns=2, gap=1)
    assert sheet.shape == (10, 12, 3)
    assert (sheet[0:4, 6:11] == 20).all() and (sheet[5:9, 0:5] == 30).all() and (sheet[5:9, 6:11] == 255).all()
