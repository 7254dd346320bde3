"""The parser's losses, its pictures, its measure, and a small run that goes through everything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from adaface.miniature.measure.parsing import compare, tally
from adaface.miniature.pictures.parser_photos import PER_CHUNK, held_out_samples, load_training_set, mirrored
from adaface.miniature.recipes.parser import FILE, SIDE, ParserTask, class_weights, segmentation_losses
from adaface.miniature.training import Schedule, Trainer
from adaface.perception.bisenet import BiSeNet
from adaface.perception.classes import CLASS_NAMES
from adaface.perception.config import BiSeNetConfig
from adaface.perception.parsing import load_parser

CPU = torch.device("cpu")
ALL = torch.arange(32)
ALIKE = torch.ones(19)
HAIR, EARRING = CLASS_NAMES.index("hair"), CLASS_NAMES.index("ear_r")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    load_training_set(folder, PER_CHUNK, SIDE)
    return folder


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> type[ParserTask]:
    monkeypatch.setattr(ParserTask, "pictures", PER_CHUNK)
    monkeypatch.setattr(ParserTask, "held_out", {"album": 3, "any": 2})
    monkeypatch.setattr(ParserTask, "schedule", Schedule(steps=3, batch=2, lr=1e-3, warmup=1, decay=0.0))
    return ParserTask


def scores_of(classes: torch.Tensor, sure: float = 20.0) -> torch.Tensor:
    return sure * F.one_hot(classes, 19).permute(0, 3, 1, 2).float()


@pytest.fixture
def classes() -> torch.Tensor:
    """(1, 32, 32): hair over background, and an earring of four pixels."""
    out = torch.zeros(1, 32, 32, dtype=torch.long)
    out[:, :16] = HAIR
    out[:, 20:22, 4:6] = EARRING
    return out


def test_a_perfect_map_costs_nothing(classes: torch.Tensor) -> None:
    cross, dice = segmentation_losses(scores_of(classes), classes, ALL, ALL, ALIKE)
    assert cross < 1e-4 and dice < 1e-4


def test_the_losses_see_what_bisenet_would_answer() -> None:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(2, 19, 4, 4, generator=generator)
    classes = torch.randint(19, (2, 32, 32), generator=generator)
    rows, columns = torch.arange(1, 32, 2), torch.arange(0, 32, 4)
    cross, _ = segmentation_losses(coarse, classes, rows, columns, ALIKE)
    full = F.interpolate(coarse, size=(32, 32), mode="bilinear", align_corners=True)
    expected = F.cross_entropy(full[:, :, rows][..., columns], classes[:, rows][..., columns])
    torch.testing.assert_close(cross, expected)


def test_dice_counts_a_rare_class_like_any_other(classes: torch.Tensor) -> None:
    missed = torch.where(classes == EARRING, 0, classes)
    cross, dice = segmentation_losses(scores_of(missed), classes, ALL, ALL, ALIKE)
    assert 0.3 < dice < 0.36  # one of three classes
    assert cross < 0.1  # 4 of 1024 pixels
    rare = ALIKE.clone()
    rare[EARRING] = 50.0
    weighted, _ = segmentation_losses(scores_of(missed), classes, ALL, ALL, rare)
    assert weighted > 30 * cross


def test_weights_are_one_on_average_and_higher_for_what_is_rare(classes: torch.Tensor) -> None:
    weights = class_weights(classes.numpy().astype(np.uint8))
    assert abs(float(weights[classes].mean()) - 1) < 1e-5
    assert weights[EARRING] > 2 * weights[HAIR] and torch.isfinite(weights).all()


def test_a_mirror_swaps_left_and_right() -> None:
    image = np.arange(2 * 19 * 3, dtype=np.uint8).reshape(2, 19, 3)
    classes = np.arange(19, dtype=np.uint8)[None].repeat(2, axis=0)
    seen, map_ = mirrored(image, classes)
    names = [CLASS_NAMES[i] for i in map_[0][::-1]]
    assert names[2:9] == ["r_brow", "l_brow", "r_eye", "l_eye", "eye_g", "r_ear", "l_ear"]
    assert [*names[:2], *names[9:]] == [*CLASS_NAMES[:2], *CLASS_NAMES[9:]]
    assert (seen == image[:, ::-1]).all()
    back = mirrored(seen, map_)
    assert (back[0] == image).all() and (back[1] == classes).all()


def test_pictures_are_samples_with_their_class_maps(data: Path) -> None:
    rows = load_training_set(data, PER_CHUNK, SIDE)
    assert rows["image"].shape == (PER_CHUNK, SIDE, SIDE, 3) and rows["classes"].shape == (PER_CHUNK, SIDE, SIDE)
    assert set(np.unique(rows["classes"])) == set(range(19))
    first, again = (list(held_out_samples("album", 2)) for _ in range(2))
    assert all((a == b).all() for pair in zip(first, again, strict=True) for a, b in zip(*pair, strict=True))
    image, classes = first[0]
    assert image.shape == (512, 512, 3) and classes.shape == (512, 512) and (first[1][0] != image).any()
    parts = {CLASS_NAMES[i] for i in np.unique(classes)}
    assert parts >= {"background", "skin", "nose", "u_lip", "l_lip", "neck", "cloth"}


def test_agreement_counted_by_hand() -> None:
    true = np.array([[0, 0, 1, 1], [0, 0, 17, 17]], np.uint8)
    found = np.array([[0, 1, 1, 1], [0, 0, 17, 18]], np.uint8)
    agreement = tally([(true, found), (true, true)])
    # hits / (true + found - hits) over both pictures; the hat, which is not there, is no class of the mean
    expected = {"background": 7 / 8, "skin": 4 / 5, "hair": 3 / 4}
    assert agreement.class_iou() == pytest.approx(expected)
    assert agreement.mean_iou() == pytest.approx(np.mean(list(expected.values())))
    assert agreement.foreground_iou == pytest.approx([4 / 5, 1])
    assert list(agreement.true_parts) == [3, 3] and list(agreement.found_parts) == [4, 3]
    assert agreement.same_parts == pytest.approx([18 / 19, 1])
    assert agreement.metrics()["parts_found_most"] == 4
    empty = np.zeros((2, 2), np.uint8)
    assert tally([(empty, empty)]).foreground_iou == [1.0]
    with pytest.raises(ValueError, match="no class maps"):
        tally([])


def test_resumed_training_equals_undisturbed(small: type[ParserTask], data: Path, tmp_path: Path) -> None:
    def train(folder: Path, steps: int) -> Trainer:
        torch.manual_seed(3)
        task = small(data, tmp_path, CPU)
        task.schedule = replace(task.schedule, steps=steps)
        trainer = Trainer(task, folder, seed=0, device=CPU)
        trainer.run()
        return trainer

    whole = train(tmp_path / "whole", 3)
    train(tmp_path / "parts", 2)
    resumed = train(tmp_path / "parts", 3)
    assert resumed.step == 3
    after = resumed.task.modules["parser"].state_dict()
    for name, value in whole.task.modules["parser"].state_dict().items():
        assert torch.equal(value, after[name]), name
    assert all(parameter.grad is not None for parameter in whole.task.modules["parser"].parameters())


def test_a_run_is_measured_and_exported(small: type[ParserTask], data: Path, tmp_path: Path) -> None:
    task = small(data, tmp_path, CPU)
    trainer = Trainer(task, tmp_path / "run", seed=0, device=CPU)
    trainer.run()
    trainer.use_average()
    with torch.inference_mode():
        metrics = task.evaluate()
    assert {"mean_iou", "foreground_iou", "iou_skin", "parts_agreement", "any_mean_iou"} < set(metrics)
    assert all(isinstance(value, float) and np.isfinite(value) for value in metrics.values())
    for folder in ("one", "two"):
        task.export(tmp_path / folder)
    file = tmp_path / "one" / FILE
    assert file.read_bytes() == (tmp_path / "two" / FILE).read_bytes()
    assert file.stat().st_size <= 2_500_000

    again = small(data, tmp_path, CPU)
    with pytest.raises(FileNotFoundError, match="train it first"):
        again.load(tmp_path / "three")
    again.load(tmp_path / "one")
    again.export(tmp_path / "three")
    assert (tmp_path / "three" / FILE).read_bytes() == file.read_bytes()

    parser = load_parser(BiSeNetConfig(file=str(file), side=SIDE), device="cpu")
    pictures = list(held_out_samples("album", 2))
    found = parser.parse(np.stack([image for image, _ in pictures]))
    assert found.shape == (2, 512, 512) and found.dtype == np.uint8 and found.max() < len(CLASS_NAMES)
    assert compare(parser, pictures).confusion.sum() == 2 * 512 * 512
    # rounding to float16 hardly changes an answer
    exact = BiSeNet.from_state_dict(task.parser.state_dict())
    x = torch.from_numpy(pictures[0][0][::2, ::2]).permute(2, 0, 1)[None].float() / 128 - 1
    with torch.inference_mode():
        same = exact(x).argmax(1) == parser.model(x).argmax(1)  # type: ignore[attr-defined]
    assert same.float().mean() > 0.97
