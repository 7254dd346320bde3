"""The miniature's Stable Diffusion as base, a small teacher and a small encoder of random weights, and a person."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adaface.evaluation.config import GenerationConfig
from adaface.evaluation.methods.base import BasePipe
from adaface.evaluation.subjects import Subject
from tests.adaface.evaluation.methods.tiny_methods import BASE, ID_DIM, make_encoder, make_text, make_unet


@pytest.fixture(scope="session")
def generation() -> GenerationConfig:
    return GenerationConfig(base=BASE, steps=3, negative_prompt="a drawing", device="cpu")


@pytest.fixture(scope="session")
def base(generation: GenerationConfig) -> BasePipe:
    """Held for all tests, so that it is loaded once."""
    return BasePipe.shared(generation.base, generation.device, generation.precision)


@pytest.fixture(scope="session")
def teacher_folder(tmp_path_factory: pytest.TempPathFactory, base: BasePipe) -> Path:
    """unet/ and text_encoder/ that fit the base's VAE and tokenizer."""
    torch.manual_seed(5)
    folder = tmp_path_factory.mktemp("teacher")
    make_unet().save_pretrained(folder / "unet")
    make_text(base, layers=2).save_pretrained(folder / "text_encoder")
    return folder


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory, base: BasePipe) -> Path:
    torch.manual_seed(6)
    return make_encoder(base).save_pretrained(tmp_path_factory.mktemp("encoder") / "step-10")


@pytest.fixture
def ids() -> np.ndarray:
    """Two photos of one person."""
    rows = np.random.default_rng(3).normal(size=(2, ID_DIM)) + np.random.default_rng(4).normal(size=ID_DIM)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def anna() -> Subject:
    return Subject("anna", (), (), "young woman", "young woman")


@pytest.fixture
def text_calls(base: BasePipe) -> Any:
    """A list that grows by one with every pass through the base's text encoder."""
    calls: list[int] = []
    handle = base.pipe.text_encoder.register_forward_hook(lambda *_: calls.append(1))
    yield calls
    handle.remove()
