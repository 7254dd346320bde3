"""Noise on faces and on vectors."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from adaface.distill.draws import normal, torch_generator
from adaface.distill.token_noise import NoiseSettings, noised_ids, noised_tokens

PEOPLE = 400


def streams(purpose: str, first: int = 0) -> list[torch.Generator]:
    return [torch_generator(purpose, slot) for slot in range(first, PEOPLE)]


IDS = F.normalize(normal(streams("ids"), (512,)), dim=-1)
VECTORS = 3 * normal(streams("vectors"), (16, 64))


def test_faces_keep_their_length_and_turn_by_the_level():
    noisy = noised_ids(IDS, 0.3, streams("noise"))
    torch.testing.assert_close(noisy.norm(dim=-1), torch.ones(PEOPLE))
    # noise of 0.3 spreads at right angles: cosine 1 / sqrt(1 + 0.3²)
    assert (noisy * IDS).sum(dim=-1).mean().item() == pytest.approx(1 / (1 + 0.09) ** 0.5, abs=2e-3)
    assert noised_ids(IDS, 0.0, streams("noise")) is IDS


def test_each_person_has_noise_of_their_own():
    together, alone = noised_ids(IDS, 0.05, streams("noise")), noised_ids(IDS[-3:], 0.05, streams("noise", PEOPLE - 3))
    assert torch.equal(together[-3:], alone)
    tokens = noised_tokens(VECTORS, 0.6, (0.02, 0.04), streams("noise"))
    alone = noised_tokens(VECTORS[-3:], 0.6, (0.02, 0.04), streams("noise", PEOPLE - 3))
    assert torch.equal(tokens[-3:], alone)


def test_so_many_vectors_get_noise_of_such_a_level():
    noisy = noised_tokens(VECTORS, 0.6, (0.02, 0.04), streams("noise"))
    level = (noisy - VECTORS).std(dim=-1) / VECTORS.std(dim=-1)
    touched = level > 0
    assert touched.float().mean().item() == pytest.approx(0.6, abs=0.02)
    assert level[touched].mean().item() == pytest.approx(0.03, abs=0.001)
    assert level[touched].min() > 0.013 and level.max() < 0.056
    # every vector on its own: all sixteen together hardly ever
    assert touched.all(dim=1).float().mean() < 0.02


def test_gradients_pass_as_if_there_were_no_noise():
    vectors = VECTORS[:2].clone().requires_grad_()
    noised_tokens(vectors, 1.0, (0.1, 0.2), streams("noise")[:2]).sum().backward()
    assert torch.equal(vectors.grad, torch.ones_like(vectors))
    assert noised_tokens(vectors, 0.0, (0.1, 0.2), []) is vectors


def test_settings_name_everything_that_is_wrong():
    with pytest.raises(ValueError) as error:
        NoiseSettings(noised_id=(0.6, 0.2), token=0.1, token_share=1.5, student_id_share=float("nan"))  # type: ignore[arg-type]
    assert all(name in str(error.value) for name in ("noised_id", "token must", "token_share", "student_id_share"))
    assert NoiseSettings(token=[0.1, 0.2]).token == (0.1, 0.2)  # type: ignore[arg-type]
