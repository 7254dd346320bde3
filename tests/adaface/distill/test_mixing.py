"""What the golden case does not show; the numbers are compared in test_golden_losses."""

from __future__ import annotations

import pytest
import torch

from adaface.distill.mixing import MixSettings, mixed_contexts, same_contexts

LAYERS, FIRST, T = 16, 4, 9
SLOTS = torch.zeros(3, T, dtype=torch.bool)
SLOTS[:, 3:6] = True


@pytest.fixture
def prompts():
    return torch.randn(2, 3, T, 12, generator=torch.Generator().manual_seed(2)).unbind()


def mix(prompts, time=1.0, progress=0.0, **options):
    options.setdefault("layers", LAYERS)
    return mixed_contexts(*prompts, SLOTS, torch.full((3,), time), first=FIRST, progress=progress, **options)


def test_the_first_layers_know_the_class_alone(prompts):
    found = mix(prompts, time=0.8, progress=1.0)
    assert found.shape == (3, LAYERS, 2, T, 12)
    torch.testing.assert_close(found[:, :FIRST], same_contexts(prompts[1], FIRST), rtol=0, atol=0)
    assert (found[:, FIRST:] != same_contexts(prompts[1], LAYERS - FIRST)).any()


def test_at_the_noisiest_time_only_the_slots_differ_from_the_class(prompts):
    subject, class_prompt = prompts
    found = mix(prompts, time=1.0)
    assert torch.equal(found[:, :, :, ~SLOTS[0]], same_contexts(class_prompt, LAYERS)[:, :, :, ~SLOTS[0]])
    for part, share in enumerate((0.7, 0.8)):  # values, keys
        expected = share * class_prompt[:, 3:6] + (1 - share) * subject[:, 3:6]
        torch.testing.assert_close(found[:, -1, part, 3:6], expected)
    # halfway down, half of the way to the last share
    middle = 1 - 0.3 * 5.5 / 11
    between = (found[:, FIRST + 5, 0, 3:6] + found[:, FIRST + 6, 0, 3:6]) / 2
    torch.testing.assert_close(between, middle * class_prompt[:, 3:6] + (1 - middle) * subject[:, 3:6])


def test_at_earlier_times_and_later_in_a_run_the_whole_subject_prompt_comes_in(prompts):
    subject, class_prompt = prompts
    for time, progress, whole in ((0.8, 0.0, 0.2), (0.8, 1.0, 0.44), (1.0, 1.0, 0.3)):
        found = mix(prompts, time, progress)[:, -1, :, 0]
        expected = whole * subject[:, 0] + (1 - whole) * class_prompt[:, 0]
        torch.testing.assert_close(found, expected.unsqueeze(1).expand(-1, 2, -1))


def test_pictures_that_start_from_noise_get_more_of_the_subject_in_their_values(prompts):
    found = mix(prompts, from_person=torch.tensor([True, False, True]))
    torch.testing.assert_close(found[::2], mix(prompts)[::2])
    torch.testing.assert_close(found[1], mix(prompts, from_person=False)[1])
    subject, class_prompt = (prompt[1, 3:6] for prompt in prompts)
    torch.testing.assert_close(found[1, -1, 0, 3:6], 0.6 * class_prompt + 0.4 * subject)
    torch.testing.assert_close(found[1, -1, 1], mix(prompts)[1, -1, 1])  # keys are the same


def test_gradients_through_the_mix_are_scaled_and_through_the_whole_prompt_are_not(prompts):
    subject, class_prompt = (prompt.requires_grad_() for prompt in prompts)
    (gradient,) = torch.autograd.grad(mix(prompts, time=1.0).sum(), class_prompt)
    # outside of the slots: 16 layers, values and keys
    torch.testing.assert_close(gradient[:, 0], torch.full((3, 12), 0.05 * LAYERS * 2))
    (gradient,) = torch.autograd.grad(mix(prompts, time=0.5).sum(), subject)
    torch.testing.assert_close(gradient[:, 0], torch.full((3, 12), 0.5 * (LAYERS - FIRST) * 2))


def test_a_unet_with_fewer_layers(prompts):
    found = mixed_contexts(*prompts, SLOTS, torch.ones(3), layers=7, first=1, progress=0.0)
    torch.testing.assert_close(found[:, -1], mix(prompts)[:, -1])


@pytest.mark.parametrize("time", [0.0, 0.8, 1.0])
def test_without_the_subject_the_teacher_is_told_the_class_prompt(prompts, time):
    found = mix(prompts, time, 0.5, settings=MixSettings(subject=0))
    torch.testing.assert_close(found, same_contexts(prompts[1], LAYERS), rtol=0, atol=0)


def test_settings_out_of_range_are_all_named():
    with pytest.raises(ValueError, match=r"keys .* decline"):
        MixSettings(keys=1.5, decline=-1)
