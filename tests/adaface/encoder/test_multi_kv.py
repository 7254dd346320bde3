"""Several keys and values per token: what stays equal, what comes first, what an extension adds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPAttention

from adaface.encoder.multi_kv import MultiKVAttention, extend, give_copies, multipliers_in, multipliers_of
from adaface.encoder.noise import add_noise
from tests.adaface.encoder.tiny_encoder import LAYERS, TEXT, WIDTH, text_model

HEADS = TEXT["num_attention_heads"]


def attention(multiplier: int, seed: int = 0) -> MultiKVAttention:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = MultiKVAttention(CLIPTextConfig(**TEXT), multiplier)
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return module.eval()


def states(length: int = 6) -> Tensor:
    return torch.randn(2, length, WIDTH, generator=torch.Generator().manual_seed(1))


def by_hand(module: MultiKVAttention, x: Tensor, may_look: Tensor) -> Tensor:
    """One query, one head at a time, over the keys (token, copy): the definition, with `may_look` (T, T) bool."""
    size = WIDTH // HEADS
    out = torch.zeros_like(x)
    for row in range(len(x)):
        for place in range(x.shape[1]):
            query = module.q_proj(x[row, place])
            for head in range(HEADS):
                part = slice(head * size, (head + 1) * size)
                logits, values = [], []
                for token in range(x.shape[1]):
                    for copy in range(module.multiplier):
                        own = slice(copy * WIDTH, (copy + 1) * WIDTH)
                        key = x[row, token] @ module.k_proj.weight[own].T + module.k_proj.bias[own]
                        value = x[row, token] @ module.v_proj.weight[own].T + module.v_proj.bias[own]
                        logit = (query[part] @ key[part]) * size**-0.5
                        logits.append(logit if may_look[place, token] else torch.tensor(-torch.inf))
                        values.append(value[part])
                shares = torch.stack(logits).softmax(0)
                out[row, place, part] = (shares[:, None] * torch.stack(values)).sum(0)
    return module.out_proj(out)


@torch.no_grad()
@pytest.mark.parametrize("multiplier", [1, 3])
def test_the_definition(multiplier):
    module, x = attention(multiplier), states(4)
    everywhere, before = torch.ones(4, 4, dtype=torch.bool), torch.ones(4, 4, dtype=torch.bool).tril()
    torch.testing.assert_close(module(x)[0], by_hand(module, x, everywhere))
    torch.testing.assert_close(module(x, is_causal=True)[0], by_hand(module, x, before))


@torch.no_grad()
@pytest.mark.parametrize("multiplier", [1, 2, 4])
def test_masks_of_every_form_say_the_same(multiplier):
    module, x = attention(multiplier), states()
    causal = module(x, is_causal=True)[0]
    may_look = torch.ones(6, 6, dtype=torch.bool).tril()
    added = torch.zeros(6, 6).masked_fill(~may_look, torch.finfo(torch.float32).min)
    for mask in (may_look[None, None], added[None, None].expand(2, HEADS, -1, -1)):
        torch.testing.assert_close(module(x, attention_mask=mask)[0], causal)
        torch.testing.assert_close(module(x, attention_mask=mask, is_causal=True)[0], causal)


@torch.no_grad()
def test_the_key_of_copy_c_of_token_t_is_number_t_times_m_plus_c():
    """A mask that differs per token hides all copies of that token, and only those."""
    module, x = attention(3), states()
    hidden = torch.ones(1, 1, 6, 6, dtype=torch.bool)
    hidden[..., 2] = False
    rest = [0, 1, 3, 4, 5]
    torch.testing.assert_close(module(x, attention_mask=hidden)[0][:, rest], module(x[:, rest])[0])


@torch.no_grad()
def test_one_key_per_token_is_transformers_own_attention():
    module, x = attention(1), states()
    plain = CLIPAttention(CLIPTextConfig(**TEXT, attn_implementation="sdpa")).eval()
    plain.load_state_dict(module.state_dict())
    torch.testing.assert_close(module(x, is_causal=True)[0], plain(x, None, is_causal=True)[0], rtol=0, atol=0)


@torch.no_grad()
@pytest.mark.parametrize("multiplier", [2, 3])
def test_an_extension_without_noise_changes_no_output(multiplier):
    module, x = attention(2), states()
    before = module(x, is_causal=True)[0]
    extend(module, multiplier, noise=0)
    assert module.multiplier == 2 * multiplier and module.k_proj.out_features == 2 * multiplier * WIDTH
    torch.testing.assert_close(module(x, is_causal=True)[0], before, rtol=0, atol=5e-6)


def test_noise_lands_on_the_weights_of_the_new_copies_alone_values_first():
    module = attention(1)
    old = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    extend(module, 3, noise=0.1, generator=torch.Generator().manual_seed(7))
    draws = torch.Generator().manual_seed(7)
    for name in ("v_proj", "k_proj"):
        weight, bias = module.get_parameter(f"{name}.weight"), module.get_parameter(f"{name}.bias")
        assert torch.equal(weight[:WIDTH], old[f"{name}.weight"])
        expected = add_noise(old[f"{name}.weight"].repeat(2, 1), 0.1, generator=draws)
        assert torch.equal(weight[WIDTH:], expected)
        assert torch.equal(bias, old[f"{name}.bias"].repeat(3))
    for name in ("q_proj.weight", "q_proj.bias", "out_proj.weight", "out_proj.bias"):
        assert torch.equal(module.get_parameter(name), old[name])


def test_a_second_extension_adds_fresh_noise_to_the_new_copies():
    """Unlike the original, whose second extension repeats the layer: such copies could never part in training."""
    module = attention(2)
    old = module.k_proj.weight.detach().clone()
    extend(module, 2, noise=0.1, generator=torch.Generator().manual_seed(0))
    new = module.k_proj.weight.detach()
    assert torch.equal(new[: 2 * WIDTH], old)
    moved = new[2 * WIDTH :] - old
    assert moved.std().item() == pytest.approx(0.1 * old.std(dim=-1).mean().item(), rel=0.1)


def test_copies_part_in_training_only_when_they_differ():
    def distance_after_a_step(noise: float) -> float:
        module = attention(2)
        extend(module, 2, noise=noise, generator=torch.Generator().manual_seed(0))
        before = module.k_proj.weight.detach().clone()
        module(states(), is_causal=True)[0].square().sum().backward()
        step = before - 0.1 * module.k_proj.weight.grad
        first, second = step[: 2 * WIDTH] - before[: 2 * WIDTH], step[2 * WIDTH :] - before[2 * WIDTH :]
        return (first - second).abs().max().item()

    assert distance_after_a_step(0.0) < 1e-5 < 1e-3 < distance_after_a_step(0.1)


def test_new_weights_learn_as_the_old_ones_did():
    module = attention(1)
    module.v_proj.requires_grad_(False)
    extend(module.double(), 2)
    assert module.k_proj.weight.requires_grad and not module.v_proj.weight.requires_grad
    assert module.k_proj.weight.dtype == torch.float64 and module.k_proj.weight.is_leaf


@torch.no_grad()
def test_a_model_with_other_copies_in_every_layer():
    text, tokens = text_model(), torch.arange(10)[None]
    before = text(tokens).last_hidden_state
    give_copies(text, (4, 1, 2, 3))
    assert multipliers_of(text) == (4, 1, 2, 3) == multipliers_in(text.state_dict())
    torch.testing.assert_close(text(tokens).last_hidden_state, before)
    extend(text.encoder.layers[1].self_attn, 2)
    assert multipliers_of(text) == (4, 2, 2, 3)
    assert not torch.allclose(text(tokens).last_hidden_state, before, atol=1e-6)


def test_multipliers_are_read_from_sizes():
    text = text_model()
    assert multipliers_of(text) == (1,) * LAYERS
    weights = {f"some.{name}": tensor for name, tensor in text.state_dict().items()}
    assert multipliers_in(weights, "some.") == (1,) * LAYERS
    with pytest.raises(ValueError, match=r"no tensor encoder\.layers\.0"):
        multipliers_in(weights)
    weights["some.encoder.layers.1.self_attn.k_proj.weight"] = torch.zeros(WIDTH + 1, WIDTH)
    weights["some.encoder.layers.2.self_attn.v_proj.weight"] = torch.zeros(2 * WIDTH, WIDTH)
    with pytest.raises(ValueError, match=r"layers\.1\..*\(33, 32\).*layers\.2\.") as caught:
        multipliers_in(weights, "some.")
    assert "layers.0" not in str(caught.value)


def test_wrong_multipliers_are_refused():
    with pytest.raises(ValueError, match="1 or more keys per token"):
        MultiKVAttention(CLIPTextConfig(**TEXT), 0)
    with pytest.raises(ValueError, match="multiplied by 1 or more"):
        extend(attention(1), 0)
    text = text_model()
    with pytest.raises(ValueError, match="2 multipliers for 4 layers"):
        give_copies(text, (1, 2))
    give_copies(text, (1,) * LAYERS)
    with pytest.raises(ValueError, match="layer 0 is a multi-key attention already"):
        give_copies(text, (1,) * LAYERS)
