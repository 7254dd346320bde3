"""Token embeddings of our own in a text model, and mixed last layers."""

from __future__ import annotations

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel

from adaface.encoder.clip_text import embed_with, embed_with_runs, mix_layers
from tests.adaface.encoder.tiny_encoder import TEXT, WIDTH, text_model


@pytest.fixture(scope="module")
def text():
    return text_model()


@pytest.fixture
def tokens():
    return torch.randint(0, 60, (2, 12), generator=torch.Generator().manual_seed(4))


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(6))


def test_a_tokens_own_embedding_changes_nothing(text, tokens):
    own = text.get_input_embeddings().weight[tokens[:, 3:7]]
    torch.testing.assert_close(embed_with(text, tokens, own, 3), text(tokens).last_hidden_state, rtol=0, atol=0)


def test_hidden_states_are_without_the_final_norm(text, tokens):
    """What `mix_layers` builds on; another transformers could hand them out normed."""
    out = text(tokens, output_hidden_states=True)
    assert len(out.hidden_states) == TEXT["num_hidden_layers"] + 1
    torch.testing.assert_close(text.final_layer_norm(out.hidden_states[-1]), out.last_hidden_state)


def test_what_stands_before_does_not_change(text, tokens):
    states = embed_with(text, tokens, randn(2, 4, WIDTH), 3)
    plain = text(tokens).last_hidden_state
    assert torch.equal(states[:, :3], plain[:, :3])
    assert ((states - plain)[:, 3:].abs().amax(-1) > 1e-4).all()


def test_one_prompt_serves_many_and_one_run_serves_many_prompts(text, tokens):
    put = randn(2, 4, WIDTH)
    both = embed_with(text, tokens[:1], put, 3)
    one_by_one = torch.cat([embed_with(text, tokens[:1], row[None], 3) for row in put])
    torch.testing.assert_close(both, one_by_one)
    both = embed_with(text, tokens, put[:1], 3)
    torch.testing.assert_close(both[1:], embed_with(text, tokens[1:], put[:1], 3))


def test_runs_are_the_general_form(text, tokens):
    put, mask = randn(2, 4, WIDTH), torch.zeros(2, 12, dtype=torch.bool)
    rows = torch.full((2, 12, WIDTH), float("nan"))  # what is not masked is never read
    mask[:, 3:7], rows[:, 3:7] = True, put
    found = embed_with_runs(text, tokens, rows, mask)
    torch.testing.assert_close(found, embed_with(text, tokens, put, 3), rtol=0, atol=0)


def test_runs_may_differ_from_prompt_to_prompt(text, tokens):
    a, b = randn(2, 3, WIDTH)
    mask, rows = torch.zeros(2, 12, dtype=torch.bool), torch.zeros(2, 12, WIDTH)
    mask[0, 1:4], rows[0, 1:4] = True, a
    mask[1, 5:8], rows[1, 5:8] = True, b
    found = embed_with_runs(text, tokens, rows, mask)
    torch.testing.assert_close(found[:1], embed_with(text, tokens[:1], a[None], 1))
    torch.testing.assert_close(found[1:], embed_with(text, tokens[1:], b[None], 5))


def test_the_last_layer_alone_is_the_plain_state(text, tokens):
    plain = text(tokens).last_hidden_state
    for weights in (torch.tensor([1.0]), torch.tensor([0.0, 0.0, 3.0]), torch.tensor([[0.0], [2.0]])):
        torch.testing.assert_close(embed_with(text, tokens, None, 0, layer_weights=weights), plain)


def test_the_mean_is_taken_before_the_norm(text, tokens):
    hidden = text(tokens, output_hidden_states=True).hidden_states
    found = embed_with(text, tokens, None, 0, layer_weights=torch.tensor([1.0, 3.0]))
    torch.testing.assert_close(found, text.final_layer_norm(0.25 * hidden[-2] + 0.75 * hidden[-1]))


def test_layer_weights_count_by_their_shares_and_per_channel():
    hidden = tuple(randn(3, 2, 5, 4))
    weights = torch.rand(3, 4, generator=torch.Generator().manual_seed(0)) + 0.1
    expected = sum(state * share for state, share in zip(hidden, weights / weights.sum(0), strict=True))
    torch.testing.assert_close(mix_layers(hidden, weights), expected)
    torch.testing.assert_close(mix_layers(hidden, 7 * weights), expected)


@pytest.mark.parametrize("shape", [(0,), (4,), (2, 3), (2, 1, 1)])
def test_layer_weights_of_wrong_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="layer weights must be"):
        mix_layers(tuple(randn(3, 2, 5, 4)), torch.ones(shape))


def test_gradients_reach_the_embeddings_and_the_hook_is_gone(text, tokens):
    put = randn(2, 4, WIDTH).requires_grad_()
    embed_with(text, tokens, put, 3, layer_weights=torch.ones(2)).square().sum().backward()
    assert put.grad is not None and (put.grad.abs().sum(-1) > 0).all()
    assert not text.get_input_embeddings()._forward_hooks


def test_the_hook_goes_when_the_model_fails(text, tokens):
    with pytest.raises(IndexError):
        embed_with(text, tokens + 100, randn(2, 4, WIDTH), 3)
    with pytest.raises(ValueError, match="layer weights must be"):
        embed_with(text, tokens, randn(2, 4, WIDTH), 3, layer_weights=torch.ones(9))
    assert not text.get_input_embeddings()._forward_hooks


def test_low_precision_models_take_float_embeddings(tokens):
    text = CLIPTextModel(CLIPTextConfig(**TEXT)).to(torch.bfloat16).eval()
    states = embed_with(text, tokens, randn(2, 4, WIDTH), 3, layer_weights=torch.ones(3))
    assert states.dtype == torch.bfloat16 and states.isfinite().all()


def test_what_does_not_fit_is_refused(text, tokens):
    with pytest.raises(ValueError, match="4 vectors from place 9 on do not fit into 12 tokens"):
        embed_with(text, tokens, randn(2, 4, WIDTH), 9)
    with pytest.raises(ValueError, match=r"must be \(B, K, 32\)"):
        embed_with(text, tokens, randn(2, 4, 31), 3)
    with pytest.raises(ValueError, match="2 prompts do not go with embeddings for 3"):
        embed_with(text, tokens, randn(3, 4, WIDTH), 3)
    with pytest.raises(ValueError, match=r"the mask bool \(B, T\)"):
        embed_with_runs(text, tokens, randn(2, 12, WIDTH), torch.zeros(2, 12))
    with pytest.raises(ValueError, match="go together"):
        embed_with_runs(text, tokens, randn(2, 12, WIDTH), None)
