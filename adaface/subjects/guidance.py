"""Guidance that falls over the denoising steps, as the original samples: much of the prompt first, then more freedom."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

# At 1 and below a pipeline would stop guiding in the middle of a run whose batches are made for it.
_LEAST = 1 + 1e-6


class AnnealedGuidance:
    """A `callback_on_step_end` of a diffusers pipeline: the guidance scale goes in a line from `start` to `end`.

    The first step has `start` and the last one `end`, as in the original's sampler (ldm/models/diffusion/ddim.py), but
    never less than just above 1.

    Raises ValueError for a start of 1 or less, from which nothing can fall, and for an end that is negative; when
    called by a pipeline that reads its scale only once, such as AnimateDiff's, on which it would have no effect.
    """

    def __init__(self, start: float = 4.0, end: float = 1.0):
        if start <= 1 or end < 0:
            raise ValueError(
                f"guidance cannot go from {start:g} to {end:g}: the start must be above 1 and the end not negative; "
                "without guidance, pass guidance_scale=1 to the pipeline"
            )
        self.start, self.end = start, end

    def at(self, step: int, steps: int) -> float:
        """The scale of one of `steps` steps, counted from 0."""
        share = step / (steps - 1) if steps > 1 else 0.0
        return max(self.start + (self.end - self.start) * share, _LEAST)

    def __call__(self, pipe: Any, step: int, timestep: Any, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """Set the scale of the step after `step`."""
        if step == 0 and not _reads_each_step(pipe):
            raise ValueError(
                f"{type(pipe).__name__} reads its guidance scale once, before the first step; pass it a number"
            )
        if step + 1 < pipe.num_timesteps:
            pipe._guidance_scale = self.at(step + 1, pipe.num_timesteps)
        return {}


def annealed_guidance(start: float = 4.0, end: float = 1.0) -> dict[str, Any]:
    """Arguments for a pipeline: `pipe(**subject.prompt(...), **annealed_guidance(4, 1))`."""
    return {"guidance_scale": start, "callback_on_step_end": AnnealedGuidance(start, end)}


def _reads_each_step(pipe: Any) -> bool:
    """Some pipelines multiply by the argument they were called with, which no callback can reach."""
    try:
        source = inspect.getsource(inspect.unwrap(type(pipe).__call__))
    except OSError:  # no source at hand: nothing is known against it
        return True
    return "self.guidance_scale *" in source
