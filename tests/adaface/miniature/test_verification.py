"""The measures, on embeddings whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from adaface.miniature.measure.verification import probe, verify
from adaface.miniature.world.identity import Identity


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_perfect_and_random_embeddings() -> None:
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(60), 4)
    perfect = verify(_unit(rng.normal(size=(60, 32)))[person], person)
    assert perfect["auc"] == 1.0 and perfect["eer"] == 0.0 and perfect["top1"] == 1.0
    assert perfect["same"] == pytest.approx(1) and perfect["to_mean"] == pytest.approx(1)
    assert perfect["outliers"] == 0.0
    blind = verify(_unit(rng.normal(size=(240, 32))), person)
    assert blind["auc"] == pytest.approx(0.5, abs=0.06) and blind["eer"] == pytest.approx(0.5, abs=0.05)
    assert blind["top1"] < 0.15 and blind["outliers"] > 0.8
    assert abs(blind["different"]) < 0.02 and blind["different_p95"] == pytest.approx(1.645 / 32**0.5, abs=0.02)


def test_auc_and_eer_against_counting() -> None:
    rng = np.random.default_rng(1)
    person = np.repeat(np.arange(10), 5)
    rows = _unit(rng.normal(size=(10, 16))[person] + rng.normal(size=(50, 16)))
    cosines = rows @ rows.T
    equal = person[:, None] == person
    off = ~np.eye(50, dtype=bool)
    same, different = cosines[equal & off], cosines[~equal]
    found = verify(rows, person)
    assert found["auc"] == pytest.approx((same[:, None] > different).mean(), abs=1e-6)
    worst = min(max((same < t).mean(), (different >= t).mean()) for t in np.unique(cosines))
    assert found["eer"] == pytest.approx(worst, abs=0.02)


def test_the_probe_reads_what_is_there_linearly() -> None:
    rng = np.random.default_rng(0)
    factors = np.stack([Identity.sample(rng).factors() for _ in range(300)])
    from adaface.miniature.networks.margin import known_factors

    readable = known_factors(factors).numpy() @ rng.normal(size=(44, 64))
    person = np.arange(300)
    found = probe(readable, factors, person)
    assert found["r2"] > 0.99 and found["accuracy"] > 0.95
    nothing = probe(rng.normal(size=(300, 64)), factors, person)
    assert nothing["r2"] < 0.05 and nothing["accuracy"] < 0.6
