"""Work done ahead: in order, bounded, and with failures where they belong."""

from __future__ import annotations

import itertools
import random
import threading
import time

import pytest

from data_pipeline.prefetch import Prefetch


@pytest.mark.parametrize(("threads", "ahead"), [(0, 1), (1, 1), (1, 8), (4, 2), (8, 30)])
def test_order_does_not_depend_on_speed(threads: int, ahead: int) -> None:
    delays = random.Random(0)

    def make(number: int) -> int:
        time.sleep(delays.random() * 0.004)
        return number**2

    prefetch = Prefetch(make, 5, threads=threads, ahead=ahead)
    assert [prefetch.take() for _ in range(40)] == [number**2 for number in range(5, 45)]
    prefetch.close()


def test_no_more_than_allowed_is_held() -> None:
    begun = itertools.count()
    latest = -1

    def make(number: int) -> int:
        nonlocal latest
        next(begun)
        latest = max(latest, number)
        return number

    prefetch = Prefetch(make, 0, threads=4, ahead=6)
    for taken in range(50):
        assert prefetch.take() == taken
        assert latest < taken + 6
    prefetch.close()
    assert next(begun) <= 50 + 5


def test_work_goes_on_while_nobody_asks() -> None:
    made = threading.Semaphore(0)

    def make(number: int) -> int:
        made.release()
        return number

    prefetch = Prefetch(make, 0, threads=2, ahead=5)
    assert prefetch.take() == 0
    for _ in range(5):
        assert made.acquire(timeout=10)
    prefetch.close()


@pytest.mark.parametrize("threads", [0, 3])
def test_a_failure_comes_at_its_turn_and_stays_there(threads: int) -> None:
    def make(number: int) -> int:
        if number == 3:
            raise OSError("number three")
        return number

    prefetch = Prefetch(make, 0, threads=threads, ahead=8)
    assert [prefetch.take() for _ in range(3)] == [0, 1, 2]
    for _ in range(2):
        with pytest.raises(OSError, match="number three"):
            prefetch.take()
    prefetch.close()


def test_closing_ends_the_threads() -> None:
    before = threading.active_count()
    prefetch = Prefetch(lambda number: number, 0, threads=3, ahead=50)
    prefetch.take()
    prefetch.close()
    assert threading.active_count() == before
