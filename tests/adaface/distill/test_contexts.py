from __future__ import annotations

from functools import partial

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor

from adaface.distill.contexts import install_layer_contexts, layer_contexts
from adaface.distill.features import capture, cross_attentions, loss_places
from adaface.distill.mixing import same_contexts
from tests.adaface.distill.small_unets import TOKENS, inputs, miniature

LAYERS = 7


@pytest.fixture(scope="module", params=["sdpa", "written out"])
def unet(request):
    network = miniature()
    if request.param == "written out":
        network.set_attn_processor(AttnProcessor())
    return network


def different_contexts(batch: int) -> Tensor:
    return torch.randn(batch, LAYERS, 2, TOKENS, 128, generator=torch.Generator().manual_seed(4))


def test_one_context_for_all_layers_is_the_plain_unet_bit_by_bit(unet):
    x, t, states = inputs(2)
    with torch.no_grad():
        plain = unet(x, t, states).sample
        with layer_contexts(unet):
            assert torch.equal(unet(x, t, states).sample, plain)
            per_layer = states.unsqueeze(1).repeat(1, LAYERS, 1, 1)
            assert torch.equal(unet(x, t, per_layer).sample, plain)
            both = unet(x, t, same_contexts(states, LAYERS)).sample
    torch.testing.assert_close(both, plain, rtol=0, atol=1e-6)


def test_every_layer_gets_its_own_keys_and_values(unet):
    """Against hooks that put the contexts before the projections of each layer."""
    x, t, states = inputs(2)
    contexts = different_contexts(2)
    hooks = []
    for place in cross_attentions(unet):
        attention = unet.get_submodule(place.name).transformer_blocks[0].attn2
        for number, projection in enumerate((attention.to_v, attention.to_k)):
            given = contexts[:, place.index, number]
            hooks.append(projection.register_forward_pre_hook(partial(lambda _m, _i, given: (given,), given=given)))
    with torch.no_grad():
        expected = unet(x, t, states).sample
        for hook in hooks:
            hook.remove()
        with layer_contexts(unet):
            found = unet(x, t, contexts).sample
        assert (unet(x, t, states).sample - expected).abs().max() > 1e-3  # the contexts do matter
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_layers_with_contexts_of_their_own_and_shared_keys(unet):
    x, t, _ = inputs(2)
    per_layer = different_contexts(2)[:, :, 0]
    with torch.no_grad(), layer_contexts(unet):
        found = unet(x, t, per_layer).sample
        torch.testing.assert_close(found, unet(x, t, same_contexts(per_layer, LAYERS)).sample, rtol=0, atol=1e-6)


def test_processors_are_as_before_also_after_an_error(unet):
    before = dict(unet.attn_processors)
    with pytest.raises(ValueError, match="contexts of 3 layers for a UNet with 7"), layer_contexts(unet):
        x, t, _ = inputs(1)
        unet(x, t, torch.zeros(1, 3, 2, TOKENS, 128))
    assert all(unet.attn_processors[name] is processor for name, processor in before.items())


def gradient(unet, contexts: Tensor) -> Tensor:
    x, t, _ = inputs(2)
    contexts = contexts.clone().requires_grad_()
    with layer_contexts(unet):
        unet(x, t, contexts).sample.square().sum().backward()
    assert contexts.grad is not None
    return contexts.grad


def test_gradients_reach_keys_and_values_of_every_layer():
    unet, contexts = miniature(), different_contexts(2)
    plain = gradient(unet, contexts)
    assert (plain.flatten(3).abs().sum(-1) > 0).all()
    unet.enable_gradient_checkpointing()
    torch.testing.assert_close(gradient(unet, contexts), plain)


def test_the_shared_contexts_gradient_is_the_sum_over_layers_keys_and_values():
    unet = miniature()
    x, t, states = inputs(2)
    states.requires_grad_()
    unet(x, t, states).sample.square().sum().backward()
    parts = gradient(unet, same_contexts(states.detach(), LAYERS).contiguous())
    torch.testing.assert_close(parts.sum((1, 2)), states.grad, rtol=1e-4, atol=1e-5)


def test_captured_keys_are_those_of_the_layers_key_context(unet):
    x, t, _ = inputs(2)
    contexts = different_contexts(2)
    with torch.no_grad(), layer_contexts(unet), capture(unet, loss_places(unet)) as captured:
        unet(x, t, contexts)
    for place in loss_places(unet):
        to_k = unet.get_submodule(place.name).transformer_blocks[0].attn2.to_k
        assert torch.equal(captured[place.name].key, to_k(contexts[:, place.index, 1]))


def test_once_installed_they_stay_until_they_are_taken_back(unet):
    before = dict(unet.attn_processors)
    restore = install_layer_contexts(unet)
    x, t, states = inputs(1)
    with torch.no_grad():
        with layer_contexts(unet):
            inside = unet(x, t, encoder_hidden_states=different_contexts(1)).sample
        assert torch.equal(unet(x, t, different_contexts(1)).sample, inside)
        restore()
        assert all(unet.attn_processors[name] is processor for name, processor in before.items())
        unet(x, t, states)
        with pytest.raises(ValueError, match="too many values"):
            unet(x, t, different_contexts(1))


def test_with_checkpointing_the_backward_pass_may_come_later_once_they_are_installed():
    unet = miniature()
    unet.enable_gradient_checkpointing()
    restore = install_layer_contexts(unet)
    x, t, _ = inputs(2)
    contexts = different_contexts(2).requires_grad_()
    with layer_contexts(unet):
        loss = unet(x, t, contexts).sample.square().sum()
    loss.backward()
    restore()
    torch.testing.assert_close(contexts.grad, gradient(miniature(), different_contexts(2)))
