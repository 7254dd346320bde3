from __future__ import annotations

import pytest
import torch

from adaface.distill.teacher_filter import FilterSettings, choose


def test_a_start_must_be_painted_well_by_the_teacher_and_better_than_by_the_student():
    student = torch.tensor([[0.10, 0.25, 0.10], [0.30, 0.10, 0.23], [0.20, 0.249, 0.9]])
    teacher = torch.tensor([[0.21, 0.26, 0.30], [0.29, 0.21, 0.24], [0.10, 0.25, 0.5]])
    choice = choose(student, teacher)
    assert choice.teachable.tolist() == [[False, True, True], [False, False, True], [False, False, False]]
    assert choice.best.tolist() == [2, 2, 0]
    assert choice.any.tolist() == [True, True, False]


def test_thresholds_are_settings():
    student, teacher = torch.tensor([[0.10]]), torch.tensor([[0.15]])
    assert not choose(student, teacher).any
    assert choose(student, teacher, FilterSettings(min_similarity=0.1)).any
    assert not choose(student, teacher, FilterSettings(min_similarity=0.1, min_advantage=0.06)).any
    with pytest.raises(ValueError, match=r"starts .*min_similarity"):
        FilterSettings(starts=0, min_similarity=22)
