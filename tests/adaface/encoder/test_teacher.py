"""The ID embedding in the place of a word."""

import pytest
import torch
import torch.nn.functional as F
from transformers import CLIPTextConfig, CLIPTextModel

from adaface.encoder.teacher import PROMPT, teacher_states
from adaface.miniature.networks.tokenizer import build_tokenizer
from adaface.miniature.world.captions import vocabulary


@pytest.fixture(scope="module")
def parts():
    torch.manual_seed(0)
    tokenizer = build_tokenizer(vocabulary())
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=77, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return CLIPTextModel(config).eval(), tokenizer


def test_the_embedding_of_the_word_itself_gives_the_plain_prompt(parts):
    text, tokenizer = parts
    word = tokenizer("id", add_special_tokens=False).input_ids[0]
    states = teacher_states(text, tokenizer, text.get_input_embeddings().weight[word][None])
    tokens = tokenizer(PROMPT, padding="max_length", max_length=77, return_tensors="pt").input_ids
    torch.testing.assert_close(states, text(tokens).last_hidden_state)
    assert states.shape == (1, 77, 32)


def test_shorter_embeddings_are_padded_with_zeros(parts):
    text, tokenizer = parts
    identities = F.normalize(torch.randn(3, 20, generator=torch.Generator().manual_seed(1)), dim=-1)
    padded = F.pad(identities, (0, 12))
    torch.testing.assert_close(teacher_states(text, tokenizer, identities), teacher_states(text, tokenizer, padded))


def test_only_what_follows_the_word_depends_on_the_person(parts):
    text, tokenizer = parts
    a, b = (F.normalize(torch.randn(1, 32, generator=torch.Generator().manual_seed(s)), dim=-1) for s in (1, 2))
    one, two = teacher_states(text, tokenizer, a), teacher_states(text, tokenizer, b)
    # start, photo, of, a | id person
    assert torch.equal(one[:, :4], two[:, :4])
    assert ((one - two)[:, 4:].abs().amax(-1) > 1e-4).all()


def test_gradients_reach_the_embedding_and_the_hook_is_gone(parts):
    text, tokenizer = parts
    identity = torch.randn(2, 32, requires_grad=True)
    teacher_states(text, tokenizer, identity).square().mean().backward()
    assert identity.grad is not None and identity.grad.abs().sum() > 0
    assert not text.get_input_embeddings()._forward_hooks


@pytest.mark.parametrize("shape", [(2, 40), (32,)])
def test_embeddings_of_a_wrong_shape_are_refused(parts, shape):
    with pytest.raises(ValueError, match=r"must be \(B, id_dim\) with id_dim <= 32"):
        teacher_states(*parts, torch.zeros(shape))
