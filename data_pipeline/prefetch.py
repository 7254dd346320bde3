"""Work done ahead in threads, handed out in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Made = TypeVar("Made")


class Prefetch(Generic[Made]):
    """make(first), make(first + 1), make(first + 2), ... made by threads before they are asked for.

    At most `ahead` results are held or being made at any time. What comes out does not depend on how many threads there
    are or how fast they work.
    """

    def __init__(self, make: Callable[[int], Made], first: int, *, threads: int, ahead: int):
        """
        Args:
            make: called in the threads, several at a time; must not depend on earlier calls.
            threads: 0: the work is done when it is asked for, by who asks.
            ahead: 1 or more.
        """
        self._make, self._next, self._ahead = make, first, ahead
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="prefetch") if threads else None
        self._pending: deque[Future[Made]] = deque()

    def take(self) -> Made:
        """The next result; what `make` raised is raised here, at its turn, and again if it is asked for again."""
        if self._pool is None:
            made = self._make(self._next)
            self._next += 1
            return made
        while len(self._pending) < self._ahead:
            self._pending.append(self._pool.submit(self._make, self._next))
            self._next += 1
        made = self._pending[0].result()  # an interrupt while waiting must not lose it
        self._pending.popleft()
        return made

    def close(self) -> None:
        """Drop what nobody will ask for. Waits for the pieces of work that have begun."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pending.clear()
