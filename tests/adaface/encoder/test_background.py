"""The background generator: shapes, its order of layers, dropout in training only."""

from __future__ import annotations

import pytest
import torch

from adaface.encoder.background import BackgroundGenerator, from_original
from tests.adaface.encoder.tiny_encoder import BACKGROUND


def generator(**changes) -> BackgroundGenerator:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return BackgroundGenerator(32, {**BACKGROUND, **changes})


def features() -> torch.Tensor:
    return torch.randn(2, 17, 24, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_a_layer_gets_the_vectors_of_its_own_queries():
    made = generator().eval()
    out = made(features())
    assert out.shape == (2, 16, 4, 32)
    made.queries[:, 4 * 3 + 2] *= -1  # layer 3, vector 2
    changed = (made(features()) - out).abs().amax(dim=(0, 3)) > 1e-6
    assert changed.nonzero().tolist() == [[3, 2]]


@torch.no_grad()
def test_pictures_do_not_see_each_other():
    made = generator().eval()
    torch.testing.assert_close(made(features())[1:], made(features()[1:]))


@torch.no_grad()
def test_attention_is_dropped_in_training_only():
    made = generator(dropout=0.5)
    assert torch.equal(made.eval()(features()), made(features()))
    assert not torch.equal(made.train()(features()), made(features()))


def test_every_parameter_learns():
    made = generator()
    made(features()).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in made.parameters())


def test_features_of_another_model_are_refused():
    with pytest.raises(ValueError, match=r"must be \(B, 17, 24\), not \(2, 17, 23\)"):
        generator()(torch.zeros(2, 17, 23))


def test_unknown_names_of_the_original_are_all_named():
    with pytest.raises(ValueError, match=r"obj_proj_in\.0\.weight, to_q\.0\.scale"):
        from_original({name: torch.zeros(1) for name in ("pos_embs", "to_q.0.scale", "obj_proj_in.0.weight")})
