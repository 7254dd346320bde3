"""The batches of a training run, the next one made while the last one is computed."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from data_pipeline.prefetch import Prefetch
from data_pipeline.stream import TrainingStream, collate

_AHEAD = 2  # the batch that is asked for, and the one after it


class Batches:
    """Endless iterator over `collate` of `size` samples of a stream, which a thread of its own takes and puts together.

    With `threads: 0` nothing is made ahead. From the first batch on, the stream is this object's alone.

    Attributes:
        stream: is ahead of what was handed out.
    """

    def __init__(self, stream: TrainingStream, size: int, *, pin_for: Any | None = None) -> None:
        """
        Args:
            pin_for: a torch.device of CUDA: tensors are page-locked, which that GPU copies while it computes.
        """
        self.stream, self._size, self._pin_for = stream, size, pin_for
        self._state = stream.state()
        self._prefetch: Prefetch[tuple[dict[str, Any], dict[str, Any]]] | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> dict[str, Any]:
        """The next batch.

        Raises:
            BadSample: with `on_bad: raise`; again at every further call.
            OSError: the storage does not answer; asking again is possible, and gives this batch.
        """
        if self._prefetch is None:
            self._prefetch = Prefetch(self._make, 0, threads=min(1, self.stream.config.threads), ahead=_AHEAD)
        try:
            batch, self._state = self._prefetch.take()
        except (OSError, ValueError):
            self.load_state(self._state)  # samples of a batch that was begun have not been handed out
            raise
        return batch

    def state(self) -> dict[str, Any]:
        """That of a stream which has handed out the same samples; what was made ahead counts as not taken."""
        return self._state

    @property
    def skipped(self) -> Mapping[str, int]:
        """Of this rank, up to the last batch: kind of damage -> draws it has cost."""
        skipped: dict[str, int] = self._state["skipped"]
        return skipped

    def load_state(self, state: dict[str, Any]) -> None:
        """As the stream's: the next batch is the one that came after `state`."""
        self.close()
        self.stream.load_state(state)
        self._state = self.stream.state()

    def close(self) -> None:
        """End the thread; the stream stays open, and is where the thread has left it."""
        if self._prefetch is not None:
            self._prefetch.close()
            self._prefetch = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _make(self, _number: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """A batch, and where the stream is after it. One thread calls it, one call after the other."""
        samples = [next(self.stream) for _ in range(self._size)]
        if self._pin_for is not None:
            import torch

            torch.cuda.set_device(self._pin_for)  # of this thread: memory would be locked for the first GPU
        return collate(samples, pin_memory=self._pin_for is not None), self.stream.state()
