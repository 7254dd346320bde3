"""Two workers with batches of B make the step that one worker with batches of 2B makes, for every kind of batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ray_jobs.distill_config import DistillConfig
from tests.ray_jobs.tiny_training import ACCEPTS_ALL, CLIP, LOSSES, Configs
from tests.ray_jobs.two_workers import Results, by_two, one_step_each

GROUP = 3
SEED = 6  # whose first step of several batches has the kinds below
DISTILLATION = {"distillation": 1.0, "rollouts": [3], "rollout_shares": [1.0], "compositional_every": 0}
# The noise of a plain optimizer step would be hidden by Adam's division: a large eps leaves the gradients' sizes in it.
OPTIMIZER = {"name": "adamw", "rate": 1e-2, "eps": 1e-3}
# Biases of keys move all of a query's scores alike, which softmax does not see: what they get is nothing but rounding.
NO_GRADIENT = ("k_proj.bias", "k_norm.bias")
# Words before those of the composition have the same states in the prompts with and without it, so that the prompts' delta
# turns rounding into directions there. In a sum with other terms it would hide what they differ by: here it is alone.
PROMPTS_ALONE = "compositional, prompts alone"
COMPOSITIONAL = {"compositional_every": 1, "background_compositional": 0.0}

KINDS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "random id": ({**DISTILLATION, "random_id": 1.0}, ("random_id",)),
    "noised id": ({**DISTILLATION, "random_id": 0.0, "noised_id": 1.0}, ("noised_id",)),
    "noised id, whole groups": (
        {**DISTILLATION, "random_id": 0.0, "noised_id": 1.0, "noised_copies": False, "shrink": False},
        ("noised_id",),
    ),
    "clean id, teacher": (
        {**DISTILLATION, "random_id": 0.0, "noised_id": 0.0, "teacher_target": 1.0},
        ("clean_id",),
    ),
    "clean id, noise": ({**DISTILLATION, "random_id": 0.0, "noised_id": 0.0, "teacher_target": 0.0}, ("clean_id",)),
    "reconstruction": (
        {"distillation": 0.0, "compositional_every": 0, "background_reconstruction": 0.0},
        ("reconstruction",),
    ),
    "reconstruction, background": (
        {"distillation": 0.0, "compositional_every": 0, "background_reconstruction": 1.0},
        ("reconstruction",),
    ),
    "compositional": (COMPOSITIONAL, ("compositional",)),
    "compositional, filtered": (COMPOSITIONAL, ("compositional",)),
    "compositional, two of a group": ({**COMPOSITIONAL, "compositions": 2}, ("compositional",)),
    "compositional, two of a group, filtered": ({**COMPOSITIONAL, "compositions": 2}, ("compositional",)),
    "compositional, background": ({"compositional_every": 1, "background_compositional": 1.0}, ("compositional",)),
    PROMPTS_ALONE: (COMPOSITIONAL, ("compositional",)),
    # the first batch's gradients stay with their worker until the second one's, which are of fewer parameters
    "a step of several batches": (
        {"distillation": 0.5, "compositional_every": 0, "background_reconstruction": 1.0},
        ("reconstruction", "random_id"),
    ),
}


def of_kind(configs: Configs, kind: str, groups: int) -> DistillConfig:
    plan, kinds = KINDS[kind]
    alone = kind == PROMPTS_ALONE
    losses = {**LOSSES, "prompt_delta": 0.0} if kind.startswith("compositional") else LOSSES
    stage = {
        "plan": {"batch": GROUP, "accumulate": len(kinds), **plan},
        "optimizer": OPTIMIZER,
        "losses": {**dict.fromkeys(LOSSES, 0.0), "prompt_delta": 1.0} if alone else losses,
        "filter": ACCEPTS_ALL,
    }
    sees_background = 1.0 in (plan.get("background_reconstruction"), plan.get("background_compositional"))
    return configs(
        stage=2,
        stage2={"stage": {**stage, "schedule": {"warmup": 1}}, "seed": SEED},
        machines={"samples_per_worker": groups * GROUP},
        models={"vision": CLIP if sees_background else None, "clip": CLIP if kind.endswith("filtered") else None},
    )


@pytest.fixture(scope="module")
def done(configs: Configs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Any, Any]]:
    """Kind -> what one worker did, and each of two."""
    whole: Results = one_step_each([of_kind(configs, kind, 2) for kind in KINDS])
    halves = by_two(
        tmp_path_factory.mktemp("workers"), [of_kind(configs, kind, 1).model_dump(mode="json") for kind in KINDS]
    )
    return dict(zip(KINDS, zip(whole, *halves, strict=True), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_two_workers_are_one_with_twice_the_batch(done: dict[str, tuple[Any, Any, Any]], kind: str) -> None:
    whole, first, second = done[kind]
    most = 1e-2 if kind == PROMPTS_ALONE else 1e-5  # as a share of a tensor's norm
    assert whole["kinds"] == first["kinds"] == second["kinds"] == KINDS[kind][1]
    for number, keys in enumerate(whole["keys"]):
        assert keys == first["keys"][number] + second["keys"][number]
    assert (first["loss"] + second["loss"]) / 2 == pytest.approx(whole["loss"], rel=1e-5)
    assert first["norm"] == second["norm"] == pytest.approx(whole["norm"], rel=most)
    if kind.startswith("compositional") and kind != PROMPTS_ALONE:
        assert whole["numbers"]["teachable"] == first["numbers"]["teachable"] == second["numbers"]["teachable"] == 1
    assert whole["gradients"].keys() == first["gradients"].keys() == second["gradients"].keys()
    apart = {}
    for name, gradient in whole["gradients"].items():
        mine, other = (each["gradients"][name] for each in (first, second))
        assert torch.equal(mine, other)
        if name.endswith(NO_GRADIENT):
            assert max(float(gradient.norm()), float(mine.norm())) < 1e-7 * whole["norm"]
        else:
            apart[name] = float((mine - gradient).norm() / gradient.norm())
    assert not {name: share for name, share in apart.items() if share > most}
    largest = max(float(moved.abs().max()) for moved in whole["moved"].values())
    for name, moved in whole["moved"].items():
        assert torch.equal(first["moved"][name], second["moved"][name])
        torch.testing.assert_close(first["moved"][name], moved, rtol=0, atol=1e-6 + 2 * most * largest)
    assert largest > 1e-3, "a step that moves nothing proves nothing"
