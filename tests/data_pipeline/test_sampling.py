"""Draws: who how often, the same for ever, each by itself."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from pydantic import ValidationError

from data_pipeline.sampling import AUGMENTATION, SAMPLE, Sampler, SamplingConfig, draw_rng

DRAWS = 20_000


def people(*counts: int, flat: int = 0) -> tuple[list[str | None], list[str]]:
    """Identities and sources: person i of `counts[i]` images, and a folder of `flat` unknown ones."""
    identities: list[str | None] = [f"a/p{i}" for i, count in enumerate(counts) for _ in range(count)]
    return identities + [None] * flat, ["a"] * len(identities) + ["f"] * flat


def sampler(identities: list[str | None], sources: list[str], seed: int = 3, **config: object) -> Sampler:
    return Sampler(identities, sources, SamplingConfig(**config), seed)  # type: ignore[arg-type]


def seen(drawn: Sampler, count: int = DRAWS) -> np.ndarray:
    """How often each sample came."""
    return np.bincount([drawn.draw(number) for number in range(count)], minlength=len(drawn._order))


def assert_frequencies(found: np.ndarray, expected: np.ndarray) -> None:
    """Of DRAWS draws, within four standard deviations of a binomial distribution, each."""
    deviation = np.sqrt(DRAWS * expected * (1 - expected))
    assert (np.abs(found - DRAWS * expected) <= 4 * deviation + 1e-9).all(), (found / DRAWS, expected)


def test_people_come_in_proportion_to_their_images_up_to_the_cap() -> None:
    identities, sources = people(2, 10, 20, 60)
    counts = seen(sampler(identities, sources))
    of_person = np.array([counts[np.array(identities) == f"a/p{i}"].sum() for i in range(4)])
    assert_frequencies(of_person, np.array([2, 10, 20, 20]) / 52)
    # every image of a large identity may come, not only its first 20
    assert_frequencies(counts[32:], np.full(60, 20 / 52 / 60))


def test_without_a_cap_all_images_are_equally_likely() -> None:
    counts = seen(sampler(*people(5, 50, 2), cap=None))
    assert_frequencies(counts, np.full(57, 1 / 57))


def test_balanced_people_are_equally_likely() -> None:
    drawn = sampler(*people(1, 4, 45), balance="identities")
    assert drawn.probabilities == pytest.approx([1 / 3] * 3)
    counts = seen(drawn)
    assert_frequencies(np.array([counts[:1].sum(), counts[1:5].sum(), counts[5:].sum()]), np.full(3, 1 / 3))


@pytest.mark.parametrize("balance", ["images", "identities"])
@pytest.mark.parametrize("share", [0.0, 0.29, 0.9, 1.0])
def test_the_share_of_unknown_people(balance: str, share: float) -> None:
    identities, sources = people(3, 30, flat=10)
    drawn = sampler(identities, sources, balance=balance, flat_share=share)
    assert drawn.probabilities.sum() == pytest.approx(1)
    counts = seen(drawn)
    assert_frequencies(np.array([counts[33:].sum()]), np.array([share]))
    assert_frequencies(counts[33:], np.full(10, share / 10))


@pytest.mark.parametrize("balance", ["images", "identities"])
def test_by_default_unknown_people_count_by_their_images_without_a_cap(balance: str) -> None:
    drawn = sampler(*people(10, 100, flat=70), balance=balance)
    assert dict(zip(drawn.groups, drawn.probabilities, strict=True))[("f", True)] == pytest.approx(70 / (10 + 20 + 70))


def test_the_original_s_share_of_ffhq() -> None:
    identities = [f"v/{person}" for person in range(863) for _ in range(20)] + [None] * 7000
    drawn = sampler(identities, ["v"] * 17260 + ["f"] * 7000)  # a tenth of VGGFace2 and FFHQ
    assert drawn.probabilities[drawn.groups.index(("f", True))] == pytest.approx(0.29, abs=0.002)


def test_two_folders_of_unknown_people() -> None:
    identities: list[str | None] = [None] * 40
    drawn = sampler(identities + ["a/p"] * 10, ["f"] * 10 + ["g"] * 30 + ["a"] * 10, flat_share=0.4)
    assert drawn.groups == [("a/p", False), ("f", True), ("g", True)]
    assert drawn.probabilities == pytest.approx([0.6, 0.1, 0.3])


def test_a_source_and_a_person_of_one_name_are_two_groups() -> None:
    drawn = sampler(["x", None], ["x", "x"])
    assert len(drawn.groups) == 2 and set(seen(drawn, 100) > 0) == {True}


def test_impossible_shares_are_refused() -> None:
    with pytest.raises(ValueError, match="no source has the layout `flat`"):
        sampler(*people(3), flat_share=0.2)
    with pytest.raises(ValueError, match="every source has the layout `flat`"):
        sampler(*people(flat=3), flat_share=0.2)
    assert seen(sampler(*people(flat=3)), 50).sum() == 50
    assert sampler(*people(3), flat_share=0).probabilities.tolist() == [1]
    with pytest.raises(ValidationError, match="flat_share"):
        SamplingConfig(flat_share=1.2)


def test_draws_are_pinned() -> None:
    """A new version that draws otherwise would go on with old checkpoints wrongly: raise the stream's format then."""
    drawn = sampler(*people(3, 5, 40, flat=20))
    assert [drawn.draw(number) for number in range(8)] == [49, 22, 9, 29, 21, 17, 5, 6]
    assert [drawn.draw(2, attempt) for attempt in range(4)] == [9, 36, 5, 15]


def test_a_draw_depends_on_nothing_that_was_drawn_before() -> None:
    forward, backward = sampler(*people(9, 9)), sampler(*people(9, 9))
    numbers = range(200)
    expected = [forward.draw(number) for number in numbers]
    assert [backward.draw(number) for number in reversed(numbers)] == expected[::-1]
    assert [sampler(*people(9, 9), seed=4).draw(number) for number in numbers] != expected
    largest = 2**64 - 1
    assert sampler(*people(9, 9), seed=largest).draw(largest) in range(18)


def test_seeds_attempts_purposes_and_neighbours_are_independent() -> None:
    """Correlations of the numbers of 4,000 draws, which for independent ones stay below 0.07."""

    def numbers(seed: int = 1, purpose: int = SAMPLE, shift: int = 0, attempt: int = 0) -> np.ndarray:
        return np.array([draw_rng(seed, purpose, n + shift, attempt).random(2) for n in range(4000)])

    base = numbers()
    others = [numbers(seed=2), numbers(purpose=AUGMENTATION), numbers(shift=1), numbers(attempt=1), base[:, ::-1]]
    for other in others:
        for column in range(2):
            assert abs(np.corrcoef(base[:, column], other[:, column])[0, 1]) < 0.07
    assert abs(base.mean() - 0.5) < 0.02 and abs(base.std() - 12**-0.5) < 0.01


def test_the_order_of_a_stream_has_no_period() -> None:
    drawn = sampler(*people(8, 8, 8))
    sequence = tuple(drawn.draw(number) for number in range(480))
    assert max(Counter(sequence[i : i + 4] for i in range(0, 480, 4)).values()) == 1
