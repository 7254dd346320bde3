"""The additive angular margin and the head around it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from adaface.miniature.networks.margin import NORM, PeopleHead, angular_margin, known_factors
from adaface.miniature.world.identity import Identity


def test_the_margin_is_added_to_the_angle_of_the_own_centre_only() -> None:
    angles = torch.tensor([[0.2, 1.0, 2.0], [1.5, 0.4, 0.1]])
    moved = angular_margin(angles.cos(), torch.tensor([0, 2]), 0.3)
    expected = angles.clone()
    expected[0, 0] += 0.3
    expected[1, 2] += 0.3
    torch.testing.assert_close(moved, expected.cos(), atol=1e-5, rtol=1e-5)


def test_the_own_logit_falls_with_the_margin_and_rises_with_the_cosine_everywhere() -> None:
    cosine = torch.linspace(-1, 1, 401)[:, None]
    own = torch.zeros(401, dtype=torch.int64)
    before = cosine
    for margin in (0.1, 0.3, 0.5):
        after = angular_margin(cosine, own, margin)
        assert bool((after < before).all())
        assert bool((after.diff(dim=0) > -1e-3).all())
        before = after
    torch.testing.assert_close(angular_margin(cosine, own, 0.0), cosine, atol=2e-3, rtol=0)


@pytest.mark.parametrize("cosine", [-1.0, 1.0, 0.0])
def test_the_gradient_is_finite_where_the_angle_has_none(cosine: float) -> None:
    cosines = torch.tensor([[cosine, 0.5]], requires_grad=True)
    angular_margin(cosines, torch.tensor([0]), 0.3)[0, 0].backward()
    assert cosines.grad is not None and bool(torch.isfinite(cosines.grad).all())
    assert float(cosines.grad[0, 0]) > 0


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small matrices gain nothing from several, and a busy machine makes them wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _head(smooth: bool) -> PeopleHead:
    rng = np.random.default_rng(0)
    factors = known_factors(np.stack([Identity.sample(rng).factors() for _ in range(50)]))
    torch.manual_seed(0)
    return PeopleHead(factors, 64, scale=20.0, margin=0.3, warmup=4, smooth=smooth)


def test_factors_have_unit_variance_and_one_choice_each() -> None:
    rng = np.random.default_rng(0)
    known = known_factors(np.stack([Identity.sample(rng).factors() for _ in range(2000)]))
    assert known.shape == (2000, 14 + 30)
    assert float((known[:, :14].var(0) - 1).abs().max()) < 0.1
    assert bool((known[:, 14:].sum(1) == 6).all())


@pytest.mark.parametrize("smooth", [True, False])
def test_a_head_can_be_satisfied(smooth: bool) -> None:
    """Embeddings of their own, free to move, end at the centres, with the norm that stands for a sure match."""
    head = _head(smooth)
    raw = torch.randn(50, 64, requires_grad=True)
    person = torch.arange(50)
    optimizer = torch.optim.Adam([raw, *head.parameters()], 0.05)
    for _ in range(150):
        losses = head(raw, person)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    assert set(losses) == {"margin", "measures", "choices", "norm"}
    with torch.no_grad():
        cosines = torch.nn.functional.normalize(raw, dim=1) @ head.centres().T
        own = cosines.diagonal()
        assert float(own.min()) > float((cosines - 2 * torch.eye(50)).max())
        assert float((raw.norm(dim=1) / NORM - own).abs().mean()) < 0.1


def test_the_margin_grows_while_training_and_not_in_eval() -> None:
    head = _head(False)
    raw, person = torch.randn(8, 64, generator=torch.Generator().manual_seed(1)), torch.arange(8)
    losses = [float(head(raw, person)["margin"].detach()) for _ in range(6)]
    assert losses[:5] == sorted(losses[:5]) and losses[0] < losses[4]
    assert math.isclose(losses[4], losses[5])
    steps = int(head.steps)
    head.eval()(raw, person)
    assert int(head.steps) == steps


def test_smooth_centres_follow_the_factors() -> None:
    head = _head(True)
    twin = head.factors[:1] + 0.01
    head.factors = torch.cat([head.factors[:1], twin, head.factors[1:]])
    with torch.no_grad():
        centres = head.centres()
    assert float(centres[0] @ centres[1]) > 0.99 > float(centres[0] @ centres[2])
