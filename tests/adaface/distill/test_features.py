from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor

from adaface.distill.features import capture, cross_attentions, loss_places
from adaface.distill.weights import cross_layer_weights, layer_weights
from tests.adaface.distill.small_unets import TOKENS, inputs, miniature, stable_diffusion

# The original's numbers of the layers -> name here, (h, w) of the attention, channels and side of the features.
ORIGINAL = {
    7: ("down_blocks.2.attentions.0", 16, 1280, 16),
    8: ("down_blocks.2.attentions.1", 16, 1280, 16),
    12: ("mid_block.attentions.0", 8, 1280, 8),
    16: ("up_blocks.1.attentions.0", 16, 1280, 16),
    17: ("up_blocks.1.attentions.1", 16, 1280, 16),
    18: ("up_blocks.1.attentions.2", 16, 1280, 32),  # with the upsampler
    19: ("up_blocks.2.attentions.0", 32, 640, 32),
    20: ("up_blocks.2.attentions.1", 32, 640, 32),
    21: ("up_blocks.2.attentions.2", 32, 640, 64),  # with the upsampler
    22: ("up_blocks.3.attentions.0", 64, 320, 64),
    23: ("up_blocks.3.attentions.1", 64, 320, 64),
    24: ("up_blocks.3.attentions.2", 64, 320, 64),
}


@pytest.fixture(scope="module")
def sd() -> UNet2DConditionModel:
    return stable_diffusion()


@pytest.fixture(scope="module")
def small() -> UNet2DConditionModel:
    return miniature()


def test_the_layers_of_stable_diffusion_are_the_originals(sd):
    assert len(cross_attentions(sd)) == 16
    places = loss_places(sd)
    assert [place.name for place in places] == [name for name, *_ in ORIGINAL.values()]
    assert places[0].index == 4  # the four layers of the higher resolutions come first
    with capture(sd, places) as captured, torch.device("meta"), torch.no_grad():
        sd(torch.empty(2, 4, 64, 64), torch.zeros(2), torch.empty(2, 77, 768))
    for name, attended, channels, side in ORIGINAL.values():
        assert captured[name].size == (attended, attended)
        assert captured[name].features.shape == (2, channels, side, side)
        assert captured[name].heads == 8 and captured[name].query.shape[1] == attended**2
        assert captured[name].key.shape == (2, 77, captured[name].query.shape[2])


def test_the_weights_of_stable_diffusions_layers_are_the_originals(sd):
    places = loss_places(sd)
    usual, neighbours = layer_weights(places), cross_layer_weights(places)
    names = {number: name for number, (name, *_) in ORIGINAL.items()}
    for number, name in names.items():
        assert usual[name] == pytest.approx((0.5 if number in (7, 8) else 1) / 11)
    expected = {8: 0.5, **dict.fromkeys((12, 16, 17, 18), 1), **dict.fromkeys((19, 20, 21), 0.5)}
    expected |= dict.fromkeys((22, 23, 24), 0.25)
    assert neighbours == pytest.approx({names[number]: weight / 6.75 for number, weight in expected.items()})


def test_the_miniature_has_the_same_places_with_fewer_blocks(small):
    assert [place.name for place in cross_attentions(small)] == [
        "down_blocks.1.attentions.0",
        "down_blocks.2.attentions.0",
        "mid_block.attentions.0",
        "up_blocks.0.attentions.0",
        "up_blocks.0.attentions.1",
        "up_blocks.1.attentions.0",
        "up_blocks.1.attentions.1",
    ]
    places = loss_places(small)
    assert [place.index for place in places] == [1, 2, 3, 4, 5, 6]
    weights = list(layer_weights(places).values())
    assert weights == pytest.approx([0.5 / 5.5] + [1 / 5.5] * 5)
    assert list(cross_layer_weights(places).values()) == pytest.approx([0.25, 0.25, 0.25, 0.125, 0.125])
    with capture(small, places) as captured, torch.no_grad():
        small(*inputs(2))
    sizes = {name: (found.size[0], *found.features.shape[1:3]) for name, found in captured.items()}
    assert list(sizes.values()) == [(4, 144, 4), (4, 144, 4), (4, 144, 4), (4, 144, 8), (8, 96, 8), (8, 96, 16)]


@pytest.mark.parametrize("written_out", [False, True], ids=["sdpa", "written out"])
def test_the_output_is_the_same_with_and_without(small, written_out):
    unet = miniature()
    if written_out:
        unet.set_attn_processor(AttnProcessor())
    with torch.no_grad():
        before = unet(*inputs(2)).sample
        with capture(unet, loss_places(unet)):
            during = unet(*inputs(2)).sample
        assert torch.equal(during, before) and torch.equal(unet(*inputs(2)).sample, before)


def test_logits_make_the_layers_own_output(small):
    """Softmax of the logits, times the values, through the projection: what the layer itself gives."""
    places = loss_places(small)
    x, t, states = inputs(2)
    for place in places:
        attention = small.get_submodule(place.name).transformer_blocks[0].attn2
        outputs = []
        hook = attention.register_forward_hook(lambda _m, _i, output, outputs=outputs: outputs.append(output))
        with capture(small, [place]) as captured, torch.no_grad():
            small(x, t, states)
        hook.remove()
        found = captured[place.name]
        values = attention.to_v(states).unflatten(2, (found.heads, -1)).transpose(1, 2)
        attended = (found.logits().softmax(-1) @ values).transpose(1, 2).flatten(2)
        torch.testing.assert_close(attention.to_out[0](attended), outputs[0], rtol=1e-5, atol=1e-6)
        # heads side by side, both scaled by d^(-1/4)
        queries = found.queries().unflatten(1, (found.heads, -1)).flatten(3)
        keys = found.key.unflatten(2, (found.heads, -1)).permute(0, 2, 3, 1) * found.scale**0.5
        torch.testing.assert_close(queries.transpose(2, 3) @ keys, found.logits(), rtol=1e-5, atol=1e-5)


def test_features_are_those_that_the_next_layers_get(small):
    """The mid block's output is what the first up block takes; an up block's last features are its own output."""
    taken = {}
    hooks = [
        small.up_blocks[0].register_forward_hook(
            lambda _m, _i, options, output: taken.update(into=options["hidden_states"], out=output), with_kwargs=True
        )
    ]
    with capture(small, loss_places(small)) as captured, torch.no_grad():
        small(*inputs(1))
    for hook in hooks:
        hook.remove()
    assert captured["mid_block.attentions.0"].features is taken["into"]
    assert captured["up_blocks.0.attentions.1"].features is taken["out"]


def test_scores_are_logits_summed_over_tokens(small):
    tokens = torch.zeros(3, TOKENS)
    tokens[0, 2:6], tokens[1, 4:9], tokens[2, 1] = 1, 1, 0.5
    with capture(small, loss_places(small)) as captured, torch.no_grad():
        small(*inputs(3))
    for found in captured.values():
        expected = (found.logits() * tokens[:, None, None]).sum(-1)
        torch.testing.assert_close(found.scores(tokens).flatten(2), expected, rtol=1e-5, atol=1e-5)


def test_nothing_is_kept_outside_and_everything_is_taken_off_also_after_an_error(small):
    hooks_before = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in small.modules()]
    with pytest.raises(RuntimeError, match="halfway"), capture(small, loss_places(small)) as captured:
        with torch.no_grad():
            small(*inputs(1))
        raise RuntimeError("halfway")
    kept = captured["mid_block.attentions.0"].query
    with torch.no_grad():
        small(*inputs(1, seed=8))
    assert captured["mid_block.attentions.0"].query is kept
    hooks_after = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in small.modules()]
    assert hooks_after == hooks_before


def _gradient(unet: UNet2DConditionModel, inside: bool) -> torch.Tensor:
    x, t, states = inputs(2)
    states.requires_grad_()
    tokens = torch.zeros(2, TOKENS)
    tokens[:, 3:6] = 1
    with capture(unet, loss_places(unet)) as captured:
        unet(x, t, states)
        parts = [f.scores(tokens).square().mean() + f.features.mean() + f.queries().mean() for f in captured.values()]
        loss = torch.stack(parts).sum()
        if inside:
            loss.backward()
    if not inside:
        loss.backward()
    assert states.grad is not None
    return states.grad


def test_gradients_reach_the_text_also_with_checkpointing():
    unet = miniature()
    plain = _gradient(unet, inside=False)
    assert (plain.abs().sum(-1) > 0).all()
    unet.enable_gradient_checkpointing()
    runs = []
    unet.mid_block.attentions[0].transformer_blocks[0].norm1.register_forward_hook(lambda *_: runs.append(1))
    torch.testing.assert_close(_gradient(unet, inside=True), plain)
    assert len(runs) == 2  # once more on the way back: checkpointing was at work
    torch.testing.assert_close(_gradient(unet, inside=False), plain)


def test_half_precision_is_kept_and_logits_are_float32(small):
    with capture(small, loss_places(small)) as captured, torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        small(*inputs(1))
        found = captured["mid_block.attentions.0"]
        assert found.query.dtype == torch.bfloat16
        assert found.logits().dtype == found.scores(torch.ones(1, TOKENS)).dtype == torch.float32


def test_a_compiled_unet_is_refused():
    unet = miniature()
    with pytest.raises(ValueError, match="second name"), capture(torch.compile(unet), loss_places(unet)):
        pass
    unet.compile()
    with pytest.raises(ValueError, match="compiled"), capture(unet, loss_places(unet)):
        pass


def test_unets_that_cannot_be_looked_into_are_named():
    options = {"block_out_channels": (32, 32), "cross_attention_dim": 8, "norm_num_groups": 8, "attention_head_dim": 4}
    deep = UNet2DConditionModel(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=2,
        **options,
    )
    with pytest.raises(ValueError, match=r"down_blocks.1.attentions.0 has 2 transformer blocks"):
        cross_attentions(deep)
