"""Guidance that falls from step to step."""

import pytest
import torch

from adaface.subjects.guidance import AnnealedGuidance, annealed_guidance
from adaface.subjects.prompt_states import prompt_states
from tests.adaface.subjects.tiny_pipelines import draw


class Recorded(AnnealedGuidance):
    """Also keeps the scale that each step had."""

    def __call__(self, pipe, step, timestep, tensors):
        self.seen = [*getattr(self, "seen", []), pipe.guidance_scale]
        return super().__call__(pipe, step, timestep, tensors)


def test_the_scale_falls_in_a_line():
    guidance = AnnealedGuidance(4, 1)
    assert [guidance.at(step, 4) for step in range(4)] == pytest.approx([4, 3, 2, 1])
    assert guidance.at(3, 4) > 1  # or a pipeline would stop guiding
    assert guidance.at(0, 1) == 4
    assert AnnealedGuidance(2, 6).at(1, 3) == 4


@pytest.mark.parametrize("kind", ["text-to-image", "image-to-image", "inpainting", "controlnet"])
def test_every_step_has_its_scale(pipelines, kind):
    pipe, arguments = pipelines(kind)
    states = prompt_states(pipe, "a horse", {})
    recorded = Recorded(4, 1)
    drawn = draw(pipe, arguments, steps=5, **states, guidance_scale=4, callback_on_step_end=recorded)
    steps = pipe.num_timesteps
    assert steps == (4 if kind == "image-to-image" else 5)  # strength 0.9
    assert recorded.seen == pytest.approx([4 - 3 * step / (steps - 1) for step in range(steps)], abs=1e-5)
    assert torch.equal(drawn, draw(pipe, arguments, steps=5, **states, **annealed_guidance(4, 1)))
    assert not torch.equal(drawn, draw(pipe, arguments, steps=5, **states, guidance_scale=4))


def test_a_level_line_is_a_constant_scale(pipelines):
    pipe, arguments = pipelines("text-to-image")
    states = prompt_states(pipe, "a horse", {})
    level = draw(pipe, arguments, steps=3, **states, **annealed_guidance(5, 5))
    assert torch.equal(level, draw(pipe, arguments, steps=3, **states, guidance_scale=5))


def test_pipelines_on_which_it_has_no_effect_refuse_it(pipelines):
    pipe, arguments = pipelines("animatediff")
    with pytest.raises(ValueError, match="AnimateDiffPipeline reads its guidance scale once"):
        draw(pipe, arguments, **prompt_states(pipe, "a horse", {}), **annealed_guidance(4, 1))


@pytest.mark.parametrize("scales", [(1, 1), (0.5, 2), (4, -1)])
def test_scales_that_cannot_be_are_refused(scales):
    with pytest.raises(ValueError, match="guidance cannot go"):
        annealed_guidance(*scales)
