"""Latents that are made once and read by trainings are those that a training would have made of each picture."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adaface.distill.models import load_frozen
from data_pipeline.stream import TrainingStream, collate
from ray_jobs.cache_latents import encode, problems_of, run
from ray_jobs.distill_config import DistillConfig
from tests.ray_jobs.tiny_training import Configs, training
from tests.tiny_distill import PIXELS

NAME = "tiny-vae"
WHOLE = {"augment": {"size": PIXELS, "scale": None}}


@pytest.fixture(scope="module")
def cached(configs: Configs, tmp_path_factory: pytest.TempPathFactory) -> DistillConfig:
    """A configuration whose latents are there."""
    cache = str(tmp_path_factory.mktemp("cache"))
    config = configs(data={**WHOLE, "latents": NAME, "cache": cache})
    assert encode(config, "cpu") == 24
    assert encode(config, "cpu") == 0, "what is there stays"
    return config


def test_latents_are_the_posterior_of_the_picture_as_it_is_shown(cached: DistillConfig) -> None:
    models = load_frozen(cached.models.base, cached.models.teacher_unet)
    with TrainingStream(cached.data, seed=1) as stream:
        samples = [next(stream) for _ in range(12)]
    assert {sample.flipped for sample in samples} == {False, True}
    batch = collate(samples)
    mean, deviation = batch["latent"].float().chunk(2, dim=1)
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(2))
    expected = models.encode(batch["image"].permute(0, 3, 1, 2).float() / 127.5 - 1, noise)
    torch.testing.assert_close((mean + deviation * noise) * models.latent_scale, expected, rtol=2e-3, atol=2e-3)


@pytest.mark.slow
def test_a_training_takes_the_same_steps_with_them(cached: DistillConfig, configs: Configs) -> None:
    """Up to the half precision they are kept in, and without reading a picture."""
    losses = []
    for data in ({"latents": NAME, "cache": cached.data.cache, "images": False}, {}):
        config = configs(data={**WHOLE, **data}, stage1={"stage": {"plan": {"random_id": 0.0}}})
        with training(config) as (trainer, _):
            losses.append([trainer.step().loss for _ in range(2)])
    assert losses[0] == pytest.approx(losses[1], rel=2e-2)
    assert losses[0] != losses[1]


def test_bad_input_is_refused_at_once(configs: Configs, tmp_path: Path) -> None:
    config = configs(data={"datasets": [str(tmp_path)]})
    assert len(problems_of(config)) == 2
    with pytest.raises(ValueError, match=r"(?s)is no finished dataset.*data\.latents is missing"):
        run(config)
