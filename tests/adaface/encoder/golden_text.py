"""Golden case 6 and the parts of 7a that belong to the encoder: mixed last layers, noise, gradient scaler."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from adaface.encoder.clip_text import embed_with
from adaface.encoder.gradient_scale import scale_gradient
from adaface.encoder.noise import add_noise, with_noise
from tests.adaface.encoder.golden_files import Check, Golden


def text_conditioning(folder: Path) -> Iterator[Check]:
    """Prompt -> conditioning from a weighted mean of the last layers; draws of a Dirichlet distribution."""
    golden = Golden(folder, "case6_text_conditioning.safetensors")
    text, tokens = golden.text_model(), golden["in/input_ids"]
    with torch.no_grad():
        hidden = torch.stack(text(tokens, output_hidden_states=True).hidden_states)
        yield Check("hidden states", hidden, golden["ref/hidden_states"])
        yield Check("last", embed_with(text, tokens, None, 0), golden["ref/plain_last_hidden_state"])
        for name in ("1_1", "1_2_2", "1.0", "0.2_0.3_0.5"):
            weights = torch.tensor([float(number) for number in name.split("_")])
            found = embed_with(text, tokens, None, 0, layer_weights=weights)
            yield Check(f"weights {name}", found, golden[f"out/w_{name}"])
        for draw in (0, 3):
            weights = golden["in/dirichlet_weights"][draw]
            found = embed_with(text, tokens, None, 0, layer_weights=weights)
            yield Check(f"Dirichlet {draw}", found, golden[f"out/dirichlet_draw{draw}"])


def noise_and_gradients(folder: Path) -> Iterator[Check]:
    """Noise (relative or not, length kept or not, its gradient, from a seed), scaled gradients."""
    golden = Golden(folder, "case7a_schedules_and_noise.safetensors")
    x, draw = golden["noise/in/ts"], golden["noise/in/draw"]
    for relative in (False, True):
        for keep_norm in (False, True):
            name = f"rel{relative:d}_keepnorm{keep_norm:d}"
            if f"noise/out/{name}" in golden.tensors:
                found = with_noise(x, draw, 0.1, relative=relative, keep_norm=keep_norm)
                yield Check(f"noise {name}", found, golden[f"noise/out/{name}"])
    moved = x.clone().requires_grad_()
    (with_noise(moved, draw, 0.1, keep_norm=True) * golden["noise/in/R"]).sum().backward()
    yield Check("noise gradient", moved.grad, golden["noise/grad/rel1_keepnorm1"])
    for drawn in golden.entry["notes"]["anneal_noise"]:
        found = x
        if drawn["applied"]:
            generator = torch.Generator().manual_seed(drawn["torch_seed"])
            found = add_noise(x, drawn["noise_std_if_applied"], generator=generator)
        yield Check(f"noise of seed {drawn['torch_seed']}", found, golden[f"anneal_noise/out/{drawn['i']}"])
    for factor in (0.0, 0.05, 0.4, 1.0, 5.0):
        moved = golden["gradscale/in/x"].clone().requires_grad_()
        out = scale_gradient(moved, factor)
        yield Check(f"scaled by {factor:g}", out.detach(), golden[f"gradscale/out/{factor:g}"])
        gradient = torch.zeros_like(moved)
        if out.requires_grad:
            (gradient,) = torch.autograd.grad((out * golden["gradscale/in/R"]).sum(), moved)
        yield Check(f"gradient times {factor:g}", gradient, golden[f"gradscale/grad/{factor:g}"])
