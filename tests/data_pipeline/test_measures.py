"""Numbers read off a photograph, against pictures and heads whose true values are known."""

from __future__ import annotations

import io
import itertools

import cv2
import numpy as np
import pytest
from PIL import Image

from data_pipeline import measures
from tests.tiny_world import photo

# Eyes, nose tip, mouth corners: x right, y down, z towards the camera.
HEAD = measures._FRONTAL


def turned(
    yaw: float, pitch: float, roll: float, scale: float = 3.0, shift: tuple[float, float] = (200, 150)
) -> np.ndarray:
    """The five points of a head that is first leant, then nodded, then turned, as a distant camera sees them."""
    y, p, r = np.radians([yaw, pitch, roll])
    # In axes x right, y down, z to the camera: the nose (0, 0, 1) goes right with yaw, up with pitch.
    nod = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    turn = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    lean = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return (HEAD @ (turn @ nod @ lean).T)[:, :2] * scale + shift


@pytest.mark.parametrize("angle", range(-60, 61, 10))
def test_each_angle_alone_is_recovered(angle: int) -> None:
    assert measures.head_pose(turned(angle, 0, 0)) == pytest.approx((angle, 0, 0), abs=0.1)
    assert measures.head_pose(turned(0, angle, 0)) == pytest.approx((0, angle, 0), abs=0.1)
    assert measures.head_pose(turned(0, 0, 3 * angle // 2)) == pytest.approx((0, 0, 3 * angle // 2), abs=0.1)


def test_signs_are_as_documented() -> None:
    right, up, clockwise = turned(30, 0, 0), turned(0, 30, 0), turned(0, 0, 30)
    level = turned(0, 0, 0)
    assert right[2, 0] > level[2, 0] and measures.head_pose(right)[0] > 25
    assert up[2, 1] < level[2, 1] and measures.head_pose(up)[1] > 25
    # Clockwise: the eye at the right of the picture goes down.
    assert clockwise[1, 1] > clockwise[0, 1] and measures.head_pose(clockwise)[2] > 25


def test_pose_does_not_depend_on_place_and_size() -> None:
    for scale in (0.5, 1, 40):
        for shift in ((0, 0), (-50, 4000)):
            assert measures.head_pose(turned(20, -15, 10, scale, shift)) == pytest.approx(
                measures.head_pose(turned(20, -15, 10)), abs=0.01
            )


def test_combined_turns_are_recovered() -> None:
    rng = np.random.default_rng(0)
    for angles in rng.uniform((-80, -60, -80), (80, 60, 80), (200, 3)):
        assert measures.head_pose(turned(*angles)) == pytest.approx(angles, abs=0.1)


def test_noise_of_a_pixel_changes_little() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        seen = turned(15, 5, -10) + rng.normal(0, 1, (5, 2))
        assert np.abs(np.subtract(measures.head_pose(seen), (15, 5, -10))).max() < 10


def test_points_that_fall_together_give_finite_angles() -> None:
    for points in (np.zeros((5, 2)), np.full((5, 2), 7.0), np.stack([np.arange(5.0), np.zeros(5)], axis=1)):
        assert np.isfinite(measures.head_pose(points.astype(np.float32))).all()


def test_squeeze_takes_the_whole_image() -> None:
    assert measures.square_window(300, 200, np.array([0, 0, 10, 10.0]), "squeeze") == (0, 0, 300, 200)


def test_crop_is_the_largest_square_inside_with_the_face_as_central_as_it_can_be() -> None:
    rng = np.random.default_rng(2)
    for _ in range(500):
        width, height = (int(side) for side in rng.integers(1, 400, 2))
        x0, y0 = rng.uniform(-50, 400, 2)
        box = np.array([x0, y0, x0 + rng.uniform(1, 300), y0 + rng.uniform(1, 300)], np.float32)
        left, top, right, bottom = measures.square_window(width, height, box, "crop")
        assert right - left == bottom - top == min(width, height)
        assert min(left, top) >= 0 and right <= width and bottom <= height
        assert all(isinstance(value, int) for value in (left, top, right, bottom))
        # No other place along the longer side brings the centre of the face nearer to the centre of the square.
        centre = (box[0] + box[2]) / 2 if width > height else (box[1] + box[3]) / 2
        place = left if width > height else top
        best = min(abs(start + min(width, height) / 2 - centre) for start in range(abs(width - height) + 1))
        assert abs(place + min(width, height) / 2 - centre) <= best + 1e-3


def test_crop_holds_a_face_that_fits() -> None:
    rng = np.random.default_rng(3)
    for _ in range(200):
        width, height = (int(side) for side in rng.integers(50, 400, 2))
        side = rng.uniform(5, min(width, height) - 2)
        x0, y0 = rng.uniform(0, width - side), rng.uniform(0, height - side)
        left, top, right, bottom = measures.square_window(
            width, height, np.array([x0, y0, x0 + side, y0 + side]), "crop"
        )
        assert left <= x0 + 0.5 and top <= y0 + 0.5 and right >= x0 + side - 0.5 and bottom >= y0 + side - 0.5


def test_crop_without_a_face_is_the_middle() -> None:
    assert measures.square_window(300, 200, None, "crop") == (50, 0, 250, 200)
    assert measures.square_window(200, 301, None, "crop") == (0, 50, 200, 250)


def checkerboard(height: int, width: int) -> np.ndarray:
    board = (np.indices((height, width)).sum(axis=0) % 2 * 255).astype(np.uint8)
    return np.repeat(board[..., None], 3, axis=2)


@pytest.mark.parametrize("shape", [(1024, 1024), (1000, 700), (513, 2000), (64, 1024), (1024, 40)])
def test_what_is_too_fine_to_be_seen_becomes_grey(shape: tuple[int, int]) -> None:
    """Lines and squares of single pixels are above the limit of sampling: any pattern left is an alias."""
    across = np.repeat(checkerboard(1, shape[1]), shape[0], axis=0)
    down = np.repeat(checkerboard(shape[0], 1), shape[1], axis=1)
    for board, too_fine in ((across, shape[1] >= 256), (down, shape[0] >= 256), (checkerboard(*shape), True)):
        if too_fine:
            small = measures.resize_antialiased(board, 128)
            assert small.shape == (128, 128, 3) and small.dtype == np.uint8
            assert np.abs(small.astype(float) - 127.5).max() < 26


def test_resize_keeps_size_type_and_mean() -> None:
    for size in (16, 160, 300):
        resized = measures.resize_antialiased(np.asarray(photo(0, 0)), size)
        assert resized.shape == (size, size, 3) and resized.dtype == np.uint8
        assert np.abs(resized.mean(axis=(0, 1)) - np.asarray(photo(0, 0)).mean(axis=(0, 1))).max() < 2
    same = np.asarray(photo(0, 0))
    np.testing.assert_array_equal(measures.resize_antialiased(same, 160), same)


def test_enlarging_does_not_leave_the_range() -> None:
    edge = np.zeros((8, 8, 3), np.uint8)
    edge[:, 4:] = 255
    large = measures.resize_antialiased(edge, 64)
    assert (large[:, :20] <= 3).all() and (large[:, 44:] >= 252).all(), "overshoot must clip, not wrap around"


def saved(image: Image.Image, side: int, **options: object) -> np.ndarray:
    file = io.BytesIO()
    image.resize((side, side), Image.Resampling.LANCZOS).convert("RGB").save(file, **options)
    return measures.resize_antialiased(np.asarray(Image.open(file).convert("RGB")), 64)


def test_phash_survives_encoding_and_resizing() -> None:
    for person in range(8):
        original = photo(person, 0, size=200)
        first = measures.perceptual_hash(measures.resize_antialiased(np.asarray(original), 64))
        for side in (200, 120, 400):
            for options in ({"format": "JPEG", "quality": 50}, {"format": "WEBP", "quality": 60}, {"format": "PNG"}):
                other = measures.perceptual_hash(saved(original, side, **options))
                assert int(measures.hamming(np.array([first]), other)[0]) <= 4, (person, side, options)


def test_phash_tells_pictures_apart() -> None:
    hashes = np.array([measures.perceptual_hash(np.asarray(photo(person, 0, size=64))) for person in range(30)])
    for number, value in enumerate(hashes):
        others = np.delete(measures.hamming(hashes, int(value)), number)
        assert others.min() > 8


def test_hamming_counts_bits() -> None:
    rng = np.random.default_rng(4)
    words = rng.integers(-(2**63), 2**63, 200)
    for other in (0, -1, 2**63 - 1, -(2**63), int(words[0])):
        expected = [((int(word) ^ other) & (2**64 - 1)).bit_count() for word in words]
        assert measures.hamming(words, other).tolist() == expected


def test_blur_lowers_sharpness_step_by_step() -> None:
    sharp = np.random.default_rng(5).integers(0, 256, (112, 112, 3)).astype(np.uint8)
    values = [measures.sharpness(sharp)]
    values += [measures.sharpness(cv2.GaussianBlur(sharp, (0, 0), sigma)) for sigma in (0.6, 1, 2, 4)]
    assert all(a > 2 * b for a, b in itertools.pairwise(values))
    assert measures.sharpness(np.full((112, 112, 3), 90, np.uint8)) == pytest.approx(0, abs=1e-6)


def test_exposure() -> None:
    face = np.zeros((10, 10, 3), np.uint8)
    assert measures.exposure(face) == (0.0, 1.0)
    face[:5] = 255
    assert measures.exposure(face) == pytest.approx((0.5, 1.0))
    face[5:] = (0, 128, 0)
    assert measures.exposure(face) == pytest.approx(((255 + 0.587 * 128) / 510, 0.5))


def test_overlap_of_a_box_and_a_window() -> None:
    window = (10, 20, 110, 70)
    assert measures.overlap(np.array([20.0, 30, 40, 35]), window) == 100
    assert measures.overlap(np.array([-99.0, -99, 999, 999]), window) == 100 * 50
    assert measures.overlap(np.array([100.0, 60, 200, 200]), window) == 10 * 10
    assert measures.overlap(np.array([200.0, 200, 300, 300]), window) == 0


def test_crop_box_is_never_empty_nor_outside() -> None:
    pixels = np.zeros((40, 60, 3), np.uint8)
    assert measures.crop_box(pixels, np.array([10.2, 5.5, 20.1, 15.0])).shape == (10, 11, 3)
    assert measures.crop_box(pixels, np.array([-10.0, -10, 100, 100])).shape == (40, 60, 3)
    for box in ([70, 50, 90, 80], [-30, -30, -10, -10], [5, 5, 5, 5], [60, 40, 61, 41]):
        assert measures.crop_box(pixels, np.array(box, np.float32)).size > 0
