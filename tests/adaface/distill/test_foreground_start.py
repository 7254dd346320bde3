from __future__ import annotations

import pytest
import torch

from adaface.distill.draws import torch_generator
from adaface.distill.foreground_start import StartDraw, StartSettings, compose_start, draw_start, start_from_person


def generators(count: int, purpose: str = "start") -> list[torch.Generator]:
    return [torch_generator(11, number, purpose) for number in range(count)]


def masks(share: float, count: int) -> torch.Tensor:
    """(count, 1, 16, 16), the middle rows."""
    rows = round(16 * share)
    mask = torch.zeros(count, 1, 16, 16)
    mask[:, :, 8 - rows // 2 : 8 - rows // 2 + rows] = 1
    return mask


def test_large_people_become_smaller():
    small = draw_start(masks(1 / 16, 4000), generators(4000), progress=0).scale
    large = draw_start(masks(0.5, 4000), generators(4000), progress=0).scale
    assert 0.7 <= small.min() < 0.702 and 0.998 < small.max() <= 1
    factor = (0.1 / 0.5) ** 0.35
    assert large.min() == pytest.approx(0.7 * factor, abs=1e-3) and large.max() == pytest.approx(factor, abs=1e-3)
    whole = draw_start(masks(1, 4000), generators(4000), progress=0).scale
    assert whole.max() == pytest.approx(0.5, abs=1e-3)  # never less than half, at the upper end


@pytest.mark.parametrize(("progress", "mean"), [(0.0, 0.1), (0.5, 0.25), (1.0, 0.4)])
def test_noise_grows_in_the_course_of_a_run(progress, mean):
    noise = draw_start(masks(0.5, 4000), generators(4000), progress=progress).noise
    assert noise.mean() == pytest.approx(mean, abs=0.005)
    assert 0.8 * mean <= noise.min() and noise.max() <= 1.2 * mean


def test_a_draw_belongs_to_its_picture():
    """Row b depends on generator b and mask b alone."""
    both = draw_start(masks(0.5, 3), generators(3), progress=0.3)
    alone = draw_start(masks(0.5, 1), [torch_generator(11, 2, "start")], progress=0.3)
    assert both.scale[2] == alone.scale[0] and both.noise[2] == alone.noise[0]


def test_the_person_stands_smaller_in_the_middle_of_noise():
    latents, mask = torch.full((2, 4, 16, 16), 7.0), torch.zeros(2, 1, 16, 16)
    mask[:, :, 4:12, 4:12] = 1
    draw = StartDraw(torch.tensor([1.0, 0.5]), torch.zeros(2))
    x, moved = start_from_person(latents, mask, draw, generators(2))
    assert torch.equal(moved[0], mask[0]) and (x[0][:, 4:12, 4:12] == 7).all()
    assert moved[1].sum() == 16 and (x[1][:, 6:10, 6:10] == 7).all()
    outside = x[1][:, moved[1, 0] == 0]
    assert abs(outside.mean()) < 0.15 and abs(outside.std() - 1) < 0.1


def test_noise_covers_everything_by_its_share():
    latents, mask = torch.full((1, 4, 16, 16), 5.0), torch.ones(1, 1, 16, 16)
    noise = tuple(torch.randn(1, 4, 16, 16, generator=torch_generator(number)) for number in range(3))
    draw = StartDraw(torch.ones(1), torch.tensor([0.25], dtype=torch.float64))
    x, _ = compose_start(latents, mask, draw, noise)
    torch.testing.assert_close(x, 0.25 * noise[2] + 0.75 * 5)


def test_without_a_mask_there_is_noise_alone():
    x, mask = start_from_person(
        torch.full((1, 4, 16, 16), 50.0),
        torch.zeros(1, 1, 16, 16),
        StartDraw(torch.ones(1), torch.zeros(1)),
        generators(1),
    )
    assert not mask.any() and x.abs().max() < 6


def test_settings_out_of_range_are_all_named():
    with pytest.raises(ValueError, match=r"scale .*noise .*noise_spread"):
        StartSettings(scale=(0.0, 1.0), noise=(0.1, 2.0), noise_spread=-1)
    assert StartSettings(scale=[0.5, 0.9]).scale == (0.5, 0.9)  # as JSON gives it
