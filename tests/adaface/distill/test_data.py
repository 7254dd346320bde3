"""What steps need of samples: each with noise of its own place, and nothing that no loss looks at."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from adaface.distill.data import Faces, prepare
from adaface.distill.draws import normal
from tests.adaface.distill.conftest import Tiny
from tests.adaface.distill.tiny_steps import batch_of, samples, stage_of
from tests.tiny_distill import PIXELS


def prepared(tiny: Tiny, kind: str, given: dict[str, Any], first: int = 0, **plan: Any) -> Faces:
    planned, batch, rows = batch_of(stage_of(kind, plan=plan), len(given["key"]), first)
    return prepare(tiny.models, planned, batch, rows, given, first)


def test_latents_are_those_of_the_pictures_with_noise_of_their_slot(tiny: Tiny) -> None:
    given = samples(0, 4)
    faces = prepared(tiny, "reconstruction", given)
    plan, batch, rows = batch_of(stage_of("reconstruction"), 4)
    noise = normal(plan.generators(batch, rows, "posterior"), (4, 8, 8))
    pictures = given["image"].permute(0, 3, 1, 2).float() / 127.5 - 1
    torch.testing.assert_close(faces.latents, tiny.models.encode(pictures, noise))
    assert faces.keys == tuple(given["key"]) and faces.person_types == tuple(given["person_type"])
    assert torch.equal(faces.ids, given["id_embedding"])


@pytest.mark.parametrize("kind", ["noised_id", "clean_id", "reconstruction", "compositional"])
def test_another_layout_of_workers_changes_nothing(tiny: Tiny, kind: str) -> None:
    whole = prepared(tiny, kind, samples(0, 4))
    half = prepared(tiny, kind, samples(2, 2), first=2)
    assert whole.keys[-len(half) :] == half.keys
    torch.testing.assert_close(whole.latents[-len(half) :], half.latents, rtol=1e-5, atol=1e-6)


def test_masks_become_those_of_the_latents(tiny: Tiny) -> None:
    given = samples(0, 2)
    faces = prepared(tiny, "reconstruction", given)
    assert faces.foreground is not None and faces.valid is not None
    assert torch.equal(faces.foreground[:, 0], given["person_mask"][:, ::4, ::4].float())
    assert torch.equal(faces.valid[:, 0], given["valid_mask"][:, ::4, ::4].float())
    assert faces.has_mask.tolist() == [True, True]


def test_only_samples_that_are_computed_are_encoded(tiny: Tiny) -> None:
    """Compositional batches are about the first sample of each group; noised-ID ones, too, and take copies of it."""
    given = samples(0, 4)
    given["image"] = given["image"].clone()
    expected = {kind: prepared(tiny, kind, given) for kind in ("compositional", "noised_id")}
    given["image"][1::2] = 0
    for kind, faces in expected.items():
        assert torch.equal(prepared(tiny, kind, given).latents, faces.latents)
    assert expected["compositional"].keys == ("sample-0", "sample-2")
    # rollouts of three steps leave one of two copies
    whole = prepared(tiny, "noised_id", given, shrink=False)
    assert whole.keys == ("sample-0", "sample-0", "sample-2", "sample-2")
    assert torch.equal(whole.latents[0], whole.latents[1])


def test_faces_that_nobody_has_need_no_picture(tiny: Tiny) -> None:
    given = {name: value for name, value in samples(0, 2).items() if name != "image"}
    models = dataclasses.replace(tiny.models, vae=None)
    planned, batch, rows = batch_of(stage_of("random_id", plan={"shrink": False}), 2)
    faces = prepare(models, planned, batch, rows, given, 0)
    assert faces.latents.shape == (2, 4, 8, 8) and not faces.latents.any()


def test_cached_latents_are_those_of_the_vae(tiny: Tiny) -> None:
    given = samples(0, 2)
    expected = prepared(tiny, "reconstruction", given).latents
    pictures = given["image"].permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        posterior = tiny.models.vae.encode(pictures).latent_dist
    cached = {name: value for name, value in given.items() if name != "image"}
    cached["latent"] = torch.cat([posterior.mean, posterior.std], dim=1).half()
    assert cached["latent"].shape[2:] == (PIXELS // 4, PIXELS // 4)
    torch.testing.assert_close(prepared(tiny, "reconstruction", cached).latents, expected, rtol=2e-3, atol=2e-3)
