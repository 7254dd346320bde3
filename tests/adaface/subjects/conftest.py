"""Tiny real pipelines and a tiny encoder, made once; tests that change one make their own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

Pipelines = Callable[[str], tuple[Any, dict[str, Any]]]


@pytest.fixture(scope="session")
def pipelines() -> Pipelines:
    """pipelines(KIND) -> (pipeline, arguments it needs); see tiny_pipelines.KINDS."""
    from tests.adaface.subjects.tiny_pipelines import build_pipeline

    return functools.cache(build_pipeline)


@pytest.fixture(scope="session")
def tiny_encoder():
    """An AdaFaceEncoder of random weights that goes with them."""
    from tests.adaface.subjects.tiny_pipelines import build_encoder

    return build_encoder()
