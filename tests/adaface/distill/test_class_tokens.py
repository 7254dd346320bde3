from __future__ import annotations

import torch

from adaface.distill.class_tokens import merge_class_words, spread_class_word


def states() -> torch.Tensor:
    return torch.randn(2, 12, 5, generator=torch.Generator().manual_seed(1))


def test_a_class_of_two_words_becomes_one_and_the_rest_moves_up():
    before = states()
    after = merge_class_words(before, 4, 2)
    assert after.shape == before.shape
    assert torch.equal(after[:, :4], before[:, :4])
    torch.testing.assert_close(after[:, 4], 0.2 * before[:, 4] + 0.8 * before[:, 5])
    assert torch.equal(after[:, 5:10], before[:, 6:11])
    assert torch.equal(after[:, 10:], before[:, 10:])


def test_three_words_and_one():
    before = states()
    after = merge_class_words(before, 2, 3)
    torch.testing.assert_close(after[:, 2], (before[:, 2] + before[:, 3] + 4 * before[:, 4]) / 6)
    assert torch.equal(after[:, 3:9], before[:, 5:11]) and torch.equal(after[:, 9:], before[:, 9:])
    assert merge_class_words(before, 2, 1) is before


def test_a_class_word_takes_all_slots_and_keeps_its_attention():
    """Summed over the slots, its vectors have the length that independent ones of the word's length would have."""
    before = states()
    after = spread_class_word(before, 3, 4)
    assert torch.equal(after[:, :3], before[:, :3]) and torch.equal(after[:, 7:], before[:, 7:])
    for slot in range(3, 7):
        torch.testing.assert_close(after[:, slot], before[:, 3] / 2)
    torch.testing.assert_close(after[:, 3:7].square().sum((1, 2)), before[:, 3].square().sum(1))
