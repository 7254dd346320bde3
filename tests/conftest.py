"""Fixtures that every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def project() -> Path:
    """The project root."""
    return PROJECT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Photos, small real models and golden files that lie beside the checkout; they are not part of the project."""
    folder = PROJECT.parent / "shared"
    if not (folder / "faces").is_dir():
        pytest.skip("needs ../shared (photos, models and golden files beside the checkout)")
    return folder
