"""The encoder: what changes its vectors, what must not, and where gradients go."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from adaface.encoder.clip_text import embed_with
from adaface.encoder.model import AdaFaceEncoder
from adaface.encoder.teacher import teacher_states_of
from tests.adaface.encoder.tiny_encoder import (
    BACKGROUND,
    COMMA,
    END,
    ID_DIM,
    LAYERS,
    WIDTH,
    config,
    encoder,
    faces,
    text_model,
)


@pytest.fixture(scope="module")
def made() -> AdaFaceEncoder:
    """Read only."""
    return encoder((4, 4, 4, 2))


@torch.no_grad()
def test_shapes(made):
    core = made.teacher_core(faces(3))
    assert core.shape == made.invert(core).shape == made(faces(3)).shape == (3, 16, WIDTH)
    assert made.prompt_states(core).shape == (3, 77, WIDTH)
    assert made.prompt_states(core, "b_core_e").shape == (3, 23, WIDTH)
    assert made.pads().shape == (77, WIDTH)


@torch.no_grad()
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_core_does_not_depend_on_the_length_of_its_prompt(attention):
    """The original uses 21, 22 and 77 tokens in different places. They agree to rounding: products of more rows, and the
    fused kernel's 77 keys, may be summed in another order, which is the processor's to say."""
    made = encoder()
    made.teacher.set_attn_implementation(attention)
    for ids in (faces(2), torch.zeros(1, ID_DIM)):
        core = made.teacher_core(ids)
        for length in (21, 22, 77):
            tokens = made.config.padded(made.config.teacher_tokens, length)
            states = teacher_states_of(made.teacher, tokens, made.config.slot, ids)
            exact = length == 22  # as long as `teacher_core` makes it
            torch.testing.assert_close(states[:, 4:20], core, rtol=0, atol=0.0 if exact else 3e-6)


@torch.no_grad()
def test_the_core_sees_nothing_behind_it(made):
    """Bit by bit: whatever the padding is."""
    slot, tokens = made.config.slot, list(made.config.padded(made.config.teacher_tokens, 77))
    states = teacher_states_of(made.teacher, tokens, slot, faces())
    other = teacher_states_of(made.teacher, tokens[:20] + [5] * 57, slot, faces())
    assert torch.equal(states[:, :20], other[:, :20]) and not torch.equal(states[:, 20:], other[:, 20:])


@torch.no_grad()
def test_people_do_not_depend_on_who_else_is_in_the_batch(made):
    together = made(faces(3))
    alone = torch.cat([made(face[None]) for face in faces(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=2e-6)
    assert (together[0] - together[1]).abs().amax(-1).min() > 1e-3


@torch.no_grad()
def test_the_vectors_are_the_commas_states(made):
    """Put together from its parts."""
    core = made.teacher_core(faces())
    tokens = torch.tensor([made.config.padded(made.config.inverse_tokens)])
    assert (tokens[0, 4:20] == COMMA).all() and (tokens[0, 20:] == END).all()
    states = embed_with(made.inverse, tokens, core, 4, layer_weights=torch.tensor([1.0, 2.0, 4.0]))
    torch.testing.assert_close(made(faces()), states[:, 4:20])
    torch.testing.assert_close(made.prompt_states(core, "full"), states)


@torch.no_grad()
def test_a_shorter_prompt_gives_the_same_vectors(made):
    core = made.teacher_core(faces())
    tokens = torch.tensor([made.config.padded(made.config.inverse_tokens, 24)])
    torch.testing.assert_close(made.invert(core, tokens), made.invert(core), rtol=0, atol=2e-6)


@torch.no_grad()
def test_layer_weights_per_channel():
    made = encoder()
    before = made(faces())
    made.layer_weights = torch.nn.Parameter(torch.tensor([[1.0], [2.0], [4.0]]).expand(3, WIDTH).clone())
    torch.testing.assert_close(made(faces()), before)
    made.layer_weights[:, 0] = torch.tensor([1.0, 0.0, 0.0])
    assert not torch.allclose(made(faces()), before, atol=1e-4)


@torch.no_grad()
def test_the_scale_goes_through_the_pads(made):
    vectors, pads = made(faces()), made.pads()[4:20]
    for scale in (0.0, 0.5, 4.0):
        torch.testing.assert_close(made(faces(), id_scale=scale), scale * vectors + (1 - scale) * pads)
    assert torch.equal(made(faces(), id_scale=1.0), vectors)


@torch.no_grad()
def test_a_stale_pad_table_is_kept_and_no_table_follows_the_weights():
    made = encoder()
    old = made.pads().clone()
    made.inverse.get_input_embeddings().weight[END] += 1.0
    torch.testing.assert_close(made.pads(), old + 1)
    made.pad_table = old
    assert torch.equal(made.pads(), old)
    vectors = made(faces())
    torch.testing.assert_close(made(faces(), id_scale=2.0), 2 * vectors - old[4:20])


@torch.no_grad()
def test_dtypes_follow_the_ids_and_the_scale_promotes():
    """As in the original: float16 IDs round the core and the vectors, a scale other than 1 brings the pads' float32."""
    made = encoder()
    half = made(faces().half())
    assert half.dtype == torch.float16
    core = made.teacher_core(faces().half())
    assert core.dtype == torch.float16
    assert torch.equal(half, made.invert(core.float()).half())
    assert made(faces().half(), id_scale=2.0).dtype == torch.float32
    assert made.to(torch.bfloat16)(faces()).dtype == torch.float32
    assert made(faces()).isfinite().all()


@torch.no_grad()
def test_an_extension_without_noise_changes_no_vector():
    made = encoder((2, 1, 1, 3))
    before = made(faces())
    made.extend(2, noise=0)
    assert made.config.multipliers == (4, 2, 2, 6)
    torch.testing.assert_close(made(faces()), before, rtol=0, atol=5e-6)


@torch.no_grad()
def test_layers_are_extended_apart_with_noise_from_the_generator():
    a, b, c = (encoder() for _ in range(3))
    before = a(faces())
    for made, seed in ((a, 0), (b, 0), (c, 1)):
        made.extend(4, layers=[0, 2], noise=0.1, generator=torch.Generator().manual_seed(seed))
    assert a.config.multipliers == (4, 1, 4, 1)
    assert torch.equal(a(faces()), b(faces())) and not torch.equal(a(faces()), c(faces()))
    assert not torch.allclose(a(faces()), before, atol=1e-5)


def test_layers_that_are_not_there_are_refused(made):
    for layers in ([4], [-1], [1, 1]):
        with pytest.raises(ValueError, match=r"different ones of 0\.\.3"):
            made.extend(2, layers=layers)
    with pytest.raises(ValueError, match="multiplied by 1 or more"):
        made.extend(0)
    assert made.config.multipliers == (4, 4, 4, 2)


def gradients(made: AdaFaceEncoder, vectors: bool = True) -> dict[str, Tensor]:
    made.zero_grad()
    core = made.teacher_core(faces()).detach()
    out = made.invert(core) if vectors else made.prompt_states(core, "full_pad")
    out.square().sum().backward()
    return {name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None}


def test_gradients_reach_all_of_the_inverse_encoder_and_none_of_the_teacher():
    made = encoder((2, 2, 2, 2)).train()
    found = gradients(made)
    assert set(found) == {"layer_weights", *(f"inverse.{name}" for name, _ in made.inverse.named_parameters())}
    assert all(gradient.isfinite().all() and gradient.abs().sum() > 0 for gradient in found.values())


@pytest.mark.parametrize("vectors", [True, False])
def test_layer_weights_learn_five_times_as_fast(vectors):
    five, one = encoder(), encoder(layer_weights_gradient=1.0)
    assert five.layer_weights_gradient == 5.0
    found, plain = gradients(five, vectors), gradients(one, vectors)
    torch.testing.assert_close(found.pop("layer_weights"), 5 * plain.pop("layer_weights"))
    for name, gradient in plain.items():
        torch.testing.assert_close(found[name], gradient)


@pytest.mark.parametrize("vectors", [True, False])
def test_the_outputs_gradient_can_be_scaled(vectors):
    plain, scaled = gradients(encoder(), vectors), gradients(encoder(output_gradient=0.4), vectors)
    for name, gradient in plain.items():
        torch.testing.assert_close(scaled[name], 0.4 * gradient)


def test_a_scale_of_zero_freezes():
    made = encoder(output_gradient=0.0)
    assert not made(faces()).requires_grad
    torch.testing.assert_close(made(faces()), encoder()(faces()))


def test_gradients_reach_the_id():
    ids = faces().requires_grad_()
    encoder()(ids).square().sum().backward()
    assert ids.grad is not None and ids.grad.abs().sum() > 0


def test_the_teacher_never_trains():
    made = encoder(background=BACKGROUND).train()
    assert made.inverse.training and not made.teacher.training
    mine = list(made.trainable_parameters())
    assert not any(parameter.requires_grad for parameter in made.teacher.parameters())
    assert all(parameter.requires_grad for parameter in mine)
    parts = [made.inverse, made.background]
    assert len(mine) == 1 + sum(len(list(part.parameters())) for part in parts)


def test_one_step_of_training_lowers_the_loss():
    made = encoder((2, 1, 1, 1)).train()
    target = torch.randn(2, 16, WIDTH, generator=torch.Generator().manual_seed(8))
    optimizer = torch.optim.SGD(made.trainable_parameters(), lr=0.02)
    losses = []
    for _ in range(4):
        loss = (made(faces()) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0]


def test_copies_are_independent():
    made = encoder()
    twin = copy.deepcopy(made)
    twin.extend(2)
    assert made.config.multipliers == (1,) * LAYERS and twin.config.multipliers == (2,) * LAYERS


def test_starting_from_a_text_model_keeps_what_it_computes():
    text = text_model(2)
    made = AdaFaceEncoder.from_text_model(config(multipliers=(1, 2, 1, 4)), text_model(1), text)
    assert made.config.multipliers == (1, 2, 1, 4)
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        torch.testing.assert_close(made.inverse(tokens).last_hidden_state, text(tokens).last_hidden_state)
    assert made.layer_weights.flatten().tolist() == [1, 2, 4]


def test_models_of_other_sizes_are_refused():
    narrow = text_model(hidden_size=16)
    with pytest.raises(ValueError, match="the teacher is 16 wide and the inverse encoder 32"):
        AdaFaceEncoder(config(), narrow)
    with pytest.raises(ValueError, match="hidden_size 16 instead of 32"):
        AdaFaceEncoder.from_text_model(config(), text_model(), narrow)


def test_inputs_of_wrong_shapes_are_refused(made):
    with pytest.raises(ValueError, match=r"ID embeddings must be \(B, 20\), not \(2, 21\)"):
        made(torch.zeros(2, 21))
    with pytest.raises(ValueError, match=r"the core must be \(B, 16, 32\), not \(2, 15, 32\)"):
        made.invert(torch.zeros(2, 15, WIDTH))
