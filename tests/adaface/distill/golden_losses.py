"""Golden cases 7b and 7c: the original's loss functions, their values and their gradients.

`python -m tests.adaface.distill.golden_losses` prints the largest relative errors as a table. An error is relative to
the largest value of its tensor: losses and gradients of 1e-4 must not pass because they are small.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from adaface.distill.class_tokens import merge_class_words, spread_class_word
from adaface.distill.foreground_start import StartDraw, compose_start, shrunk
from adaface.distill.losses.attention_regions import attention_regions
from adaface.distill.losses.cross_layer import cross_layer
from adaface.distill.losses.deltas import attention_delta, attention_norm, feature_delta
from adaface.distill.losses.elastic_matching import elastic_matching, match
from adaface.distill.losses.maps import away_from, masked_mean, resized, resized_mask
from adaface.distill.losses.operators import alignment, cosine_loss, delta_alignment, orthogonal, orthogonal_l2
from adaface.distill.losses.prompt_delta import prompt_delta, token_weights
from adaface.distill.losses.reconstruction import reconstruction
from adaface.distill.mixing import MixSettings, mixed_contexts, same_contexts
from adaface.distill.teacher_filter import choose
from adaface.distill.weights import dynamic_scale
from adaface.encoder.gradient_scale import scale_gradient
from tests.adaface.encoder.golden_files import Golden

TOLERANCE = 1e-5  # the README of the golden files: losses rtol 1e-5
FUNCTIONS, ACTIVATIONS = "case7b_losses.safetensors", "case7c_activation_losses.safetensors"
FOLDER = Path(__file__).resolve().parents[4] / "shared" / "golden"

Inputs = Mapping[str, Tensor]
Outputs = Tensor | Sequence[Tensor]


class Entry(NamedTuple):
    """One entry of a golden file, from the inputs of this project's functions to the original's numbered outputs."""

    file: str
    run: Callable[[Inputs], Outputs]


class Error(NamedTuple):
    """Largest difference of one tensor, relative to its largest value (to 1 where all of it is 0)."""

    tensor: str
    error: float


def errors(golden: Golden, name: str, run: Callable[[Inputs], Outputs]) -> Iterator[Error]:
    """Of all outputs of an entry and of all gradients of its objective."""
    aliases = golden.entry.get("aliases", {})
    tensors = {**golden.tensors, **{alias: golden[stored] for alias, stored in aliases.items()}}
    stored = {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}
    gradients = {key.removeprefix("grad/"): value for key, value in stored.items() if key.startswith("grad/")}
    expected = [value for key, value in sorted(stored.items()) if key.startswith("out/")]
    inputs = {
        key.removeprefix("in/"): value.clone().requires_grad_(key.removeprefix("in/") in gradients)
        for key, value in stored.items()
        if key.startswith("in/")
    }
    outputs = run(inputs)
    outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
    objective = torch.zeros(())
    for number, (found, wanted) in enumerate(zip(outputs, expected, strict=True)):
        yield Error(f"output {number}", relative(found.detach(), wanted))
        factor = stored.get(f"in/R_{number}")
        objective = objective + (found.sum() if factor is None else (found * factor).sum())
    if gradients:
        found_gradients = torch.autograd.grad(objective, [inputs[key] for key in gradients], materialize_grads=True)
        for (key, wanted), found in zip(gradients.items(), found_gradients, strict=True):
            yield Error(f"gradient of {key}", relative(found, wanted))


def relative(found: Tensor, expected: Tensor) -> float:
    if found.shape != expected.shape:
        return float("inf")
    largest = expected.abs().max().item()
    return (found.double() - expected.double()).abs().max().item() / (largest or 1.0)


# ---- 7b: operators


def _cosine(**options: float | bool) -> Callable[[Inputs], Tensor]:
    return lambda i: cosine_loss(i["delta"], i["ref_delta"], **options).mean()


def _masked_cosine(i: Inputs) -> Tensor:
    losses = cosine_loss(
        i["delta"], i["ref_delta"], demean=True, reference_gradient=0.05, weights=i["emb_mask"].squeeze(-1)
    )
    return (losses * i["batch_mask"]).sum() / i["batch_mask"].sum()


def _decomposed(i: Inputs) -> Outputs:
    a, b = i["a"], i["b"]
    return a - orthogonal(a, b), orthogonal(a, b), alignment(a, b).squeeze(-1)


def _suppressed(a: Tensor, b: Tensor, share: float) -> Tensor:
    return orthogonal(a, b) + share * (a - orthogonal(a, b))


def _of_equal_norm(i: Inputs) -> tuple[Tensor, Tensor]:
    norms = [i[name].norm(dim=-1, keepdim=True) + 1e-6 for name in ("a", "b")]
    mean = sum(norms) / 2
    return i["a"] / norms[0] * mean, i["b"] / norms[1] * mean


def _both_deltas(i: Inputs) -> Outputs:
    base, changed, reference_base, reference_changed = _roles(i)
    # the other direction, which training does not use, from the same operators
    source = orthogonal(scale_gradient(reference_changed, 0.1), scale_gradient(reference_base, 0.1))
    target = orthogonal(changed, scale_gradient(base, 0.05))
    other = cosine_loss(target, source, reference_gradient=1).mean()
    return other, delta_alignment(base, changed, reference_base, reference_changed).mean()


def _attention_deltas(i: Inputs) -> Tensor:
    return delta_alignment(*_roles(i), exponent=3, reference_gradient=0.05, base_gradient=1).mean()


def _roles(i: Inputs) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return i["feat_base"], i["feat_ex"], i["ref_feat_base"], i["ref_feat_ex"]


# ---- 7b: parts of the compositional step


def _prompt_delta(i: Inputs) -> Tensor:
    words = i["prompt_emb_mask"].squeeze(-1).clone()
    words[:, 0] = 0
    return prompt_delta(i["static_embeddings"], token_weights(words[:1], words[1:2])).mean()


def _matched(i: Inputs) -> Outputs:
    queries, features = (i[name].transpose(1, 2) for name in ("ca_q", "ca_outfeat"))
    found = match(queries, features, i["fg_mask"][:, 0] > 0)
    losses = [found.map_alignment.mean(), found.foreground_match.mean(), found.background_match.mean()]
    if not i["fg_mask"].any():
        return losses
    return *losses, found.subject_background[None], found.teacher_background[None]


def _away(i: Inputs) -> Outputs:
    scores = i["flat_attn"].sum(0, keepdim=True).unflatten(2, (8, 8))
    return away_from(scores, (16, 16)), resized(scores.mean(1, keepdim=True), (16, 16))


def _mixed(progress: float, keys: float) -> Callable[[Inputs], Tensor]:
    def run(i: Inputs) -> Tensor:
        subject, class_prompt = i["c_static_emb"].unflatten(0, (-1, 4)).chunk(2)
        slots = torch.zeros(2, 9, dtype=torch.bool)
        slots[:, i["idx"]] = True
        mixed = mixed_contexts(
            subject,
            class_prompt,
            slots,
            i["t"],
            layers=4,
            first=1,
            progress=progress,
            settings=MixSettings(keys=keys, values=0.7),
        )
        # the original puts values and keys side by side along the tokens
        return torch.cat([same_contexts(subject, 4), mixed]).flatten(0, 1).flatten(1, 2)

    return run


def _merged(i: Inputs) -> Tensor:
    subject, class_prompt = i["prompt_embedding"].chunk(2)
    return torch.cat([subject, merge_class_words(class_prompt, 3, 2)])


def _start(seed: int) -> Callable[[Inputs], Outputs]:
    def run(i: Inputs) -> Outputs:
        # the original's global generators, in its order; the mean of the noise is 0.1 + 0.4 * 0.5 here
        random = np.random.RandomState(seed)
        share = i["filtered_fg_mask"].double().mean().item()
        smaller = (0.1 / share) ** 0.35
        scale = random.uniform(0.7 * smaller, max(0.5, smaller))
        amount = random.uniform(0.8 * 0.3, 1.2 * 0.3)
        generator = torch.Generator().manual_seed(seed)
        noise = tuple(torch.randn(i["x"].shape, generator=generator) for _ in range(3))
        draw = StartDraw(torch.full((2,), scale, dtype=torch.float64), torch.full((2,), amount, dtype=torch.float64))
        x, mask = compose_start(i["x"], i["filtered_fg_mask"], draw, noise)
        return x, torch.cat([shrunk(row, scale) for row in i["fg_mask"].split(1)]), mask

    return run


# ---- 7c: losses on activations


# the layers by the original's numbers; weights as it normalises them
_LAYERS = (7, 8, 12, 16, 17, 18, 19, 20, 21, 22, 23, 24)
ORDER = [str(layer) for layer in _LAYERS]
WEIGHTS = {str(layer): (0.5 if layer < 12 else 1) / 11 for layer in _LAYERS}
NEIGHBOUR_WEIGHTS = {
    str(layer): weight / 6.75
    for layer, weight in zip(_LAYERS[1:], (0.5, *[1] * 4, *[0.5] * 3, *[0.25] * 3), strict=True)
}


def _of_layers(i: Inputs, kind: str) -> dict[str, Tensor]:
    found = {name.removeprefix(kind): tensor for name, tensor in i.items() if name.startswith(kind)}
    return {name: tensor for name, tensor in found.items() if name.isdigit()}


def _square(x: Tensor) -> Tensor:
    side = int(x.shape[2] ** 0.5)
    return x.unflatten(2, (side, side))


def _scores(i: Inputs, rows: Tensor, tokens: Tensor) -> dict[str, Tensor]:
    found = {}
    for layer, logits in _of_layers(i, "attn").items():
        chosen = torch.zeros(len(logits), logits.shape[-1])
        chosen[rows, tokens] = 1
        found[layer] = _square(torch.einsum("bhnt,bt->bhn", logits, chosen))
    return found


def _scores_of_four(i: Inputs) -> dict[str, Tensor]:
    """Subject indices of the first two rows (or of one, for both) hold for the teacher's rows, too."""
    rows, tokens = i["iB"], i["iN"]
    if rows.max() == 0:
        rows, tokens = torch.cat([rows, rows + 1]), tokens.repeat(2)
    return _scores(i, torch.cat([rows, rows + 2]), tokens.repeat(2))


def _reconstruction(background: float | None) -> Callable[[Inputs], Tensor]:
    def run(i: Inputs) -> Tensor:
        weight = i["bw"] if background is None else background
        masks = {"foreground": i.get("fg_mask"), "valid": i.get("img_mask")}
        return reconstruction(i["model_output"], i["target"], **masks, background_weight=weight, together=True).mean()

    return run


def _regions(*, background: bool = True, by_root: bool = False) -> Callable[[Inputs], Outputs]:
    """The original's outputs carry factors that are weights here."""

    def run(i: Inputs) -> Outputs:
        roots = (3**0.5, 2**0.5) if by_root else (1, 1)
        s = {layer: x / roots[0] for layer, x in _scores(i, i["subj_B"], i["subj_N"]).items()}
        b = None
        if background:
            b = {layer: x / roots[1] for layer, x in _scores(i, i["bg_B"], i["bg_N"]).items()}
        found = attention_regions(s, b, i["fg_mask"], WEIGHTS, token_ratio=3 / 2, instances=i["inst"], original=True)
        factors = {"complementary": 1, "subject_outside": 0.05, "background_inside": 0.1, "contrast": 0.05}
        return [factor * found[name].mean() for name, factor in factors.items() if name in found]

    return run


def _neighbours(i: Inputs) -> Outputs:
    both = ((i["subj_B"], i["subj_N"]), (i["bg_B"], i["bg_N"]))
    return [cross_layer(_scores(i, *where), ORDER, NEIGHBOUR_WEIGHTS).mean() for where in both]


def _deltas(normalise: bool) -> Callable[[Inputs], Outputs]:
    def run(i: Inputs) -> Outputs:
        scores = _scores_of_four(i)
        features = feature_delta(_of_layers(i, "feat"), scores, WEIGHTS, normalise=normalise)
        return features.mean(), attention_delta(scores, WEIGHTS).mean(), attention_norm(scores, WEIGHTS).mean()

    return run


def _elastic(normalise: bool) -> Callable[[Inputs], Outputs]:
    def run(i: Inputs) -> Outputs:
        queries = {layer: _square(q.transpose(2, 3).flatten(1, 2)) for layer, q in _of_layers(i, "q").items()}
        found = elastic_matching(
            queries, _of_layers(i, "feat"), _scores_of_four(i), i["fg_mask"][:1], WEIGHTS, normalise=normalise
        )
        terms = [value.mean() for value in found.values()]
        return *terms[:2], torch.zeros(()), *terms[2:]  # a loss that the original has switched off

    return run


ENTRIES: dict[str, Entry] = {
    **{
        name: Entry(FUNCTIONS, run)
        for name, run in {
            "ortho_subtract": lambda i: orthogonal(i["a"], i["b"]),
            "ortho_subtract_last2_bcast_coeff": lambda i: (
                orthogonal(i["a"], i["b"], dims=2),
                alignment(i["a"], i["b"], dims=2),
            ),
            "decomp_align_ortho": _decomposed,
            "directional_suppress": lambda i: _suppressed(i["a"], i["b"], 0.3),
            "align_suppressed_add": lambda i: i["a"] + _suppressed(i["b"], i["a"], 0.3),
            "calc_align_coeffs": lambda i: alignment(i["a"], i["b"]).squeeze(-1),
            "normalized_ortho_subtract": lambda i: orthogonal(*_of_equal_norm(i)),
            "ortho_l2loss": lambda i: orthogonal_l2(i["a"], i["b"]).mean(),
            "ortho_l2loss_sqrt": lambda i: orthogonal_l2(i["a"], i["b"]).mean().sqrt(),
            "demean": lambda i: i["x"] - i["x"].mean(-1, keepdim=True),
            "ref_cosine_default": _cosine(),
            "ref_cosine_mask_demean": _masked_cosine,
            "ref_cosine_exp3_margin": _cosine(exponent=3, reference_gradient=1, margin=0.6),
            "ref_cosine_repel": _cosine(reference_gradient=0.1, repel=True),
            "ref_cosine_2d": _cosine(reference_gradient=1, demean=True),
            "ref_cosine_exp1": _cosine(reference_gradient=1, exponent=1),
            "delta_align_default": _both_deltas,
            "delta_align_base_auto": _both_deltas,
            "delta_align_attn": _attention_deltas,
            "masked_mean_all": lambda i: masked_mean(i["ts"], i["mask"]),
            "masked_mean_dim": lambda i: masked_mean(i["ts"], i["mask"], dims=(1, 2), instances=i["instance_weights"]),
            "masked_mean_boolmask": lambda i: masked_mean(i["ts"], i["mask"]),
            "masked_mean_nomask": lambda i: masked_mean(i["ts"], None, instances=torch.tensor([1.0, 0.0])),
            "masked_mean_zero": lambda i: masked_mean(i["ts"], i["mask"]),
            "prompt_delta": _prompt_delta,
            "prompt_delta_nomask": lambda i: prompt_delta(i["static_embeddings"], class_gradient=0.2).mean(),
            "elastic_matching": _matched,
            "elastic_matching_emptymask": _matched,
            "attn_to_spatial_weight": _away,
            "resize_mask_1d": lambda i: resized_mask(i["mask"], (8, 8)),
            "distribute_to_M": lambda i: spread_class_word(i["text_embedding"], 2, 3),
            "merge_cls_tokens": _merged,
            "mix_static_vk": _mixed(0.4, 0.9),
            "mix_static_vk_default_k1": _mixed(0.0, 1.0),
            "normalized_sum_p0": lambda i: i["x"].sum(),
            "init_fg_0": _start(3000),
            "init_fg_1": _start(3001),
        }.items()
    },
    **{
        name: Entry(ACTIVATIONS, run)
        for name, run in {
            **{f"recon_plain_bg{w:g}": _reconstruction(w) for w in (1, 0.1, 0)},
            **{f"recon_masked_bg{w:g}": _reconstruction(w) for w in (1, 0.1, 0)},
            "recon_masked_bgvec": _reconstruction(None),
            "fg_bg_complementary": _regions(),
            "fg_bg_complementary_instmask": _regions(by_root=True),
            "fg_only_suppress": _regions(background=False),
            "xlayer_consist": _neighbours,
            "prompt_mix": _deltas(False),
            "prompt_mix_ln": _deltas(True),
            "comp_preserve": _elastic(False),
            "comp_preserve_norm": _elastic(True),
            "fg_bg_token_ortho": lambda i: cosine_loss(
                i["bg"].mean(1), i["fg"].mean(1), reference_gradient=0.5, repel=True
            ).mean(),
        }.items()
    },
}
# What no training of the original's runs through, and what raises in it.
LEFT_OUT = {
    FUNCTIONS: {
        "normalized_l2loss", "power_loss_2", "power_loss_3_rev", "delta_align_coeff", "attn_to_spatial_weight_notrev",
        "resize_mask_2d_nearest", "fix_emb_scale", "normalized_sum_p05", "dampen",
    },
    ACTIVATIONS: set(),
}  # fmt: skip
# Entries without tensors of their own.
TABLES = {FUNCTIONS: {"dyn_loss_scale"}, ACTIVATIONS: {"teacher_filter"}}


def scale_errors(folder: Path) -> Iterator[float]:
    """Of the factor that follows a loss: columns loss, loss_base, scale_base, min_ratio, max_ratio, scale."""
    for loss, base, scale, least, largest, wanted in Golden(folder, FUNCTIONS)["dyn_loss_scale/table"].tolist():
        assert least == 1, "dynamic_scale takes the scale at the base for the least one, as all rows do"
        found = dynamic_scale(torch.tensor(loss, dtype=torch.float64), base, scale, scale * largest).item()
        yield abs(found - wanted) / wanted


def filter_rows(folder: Path) -> Iterator[tuple[list[bool], int, list[bool], int]]:
    """Found and expected: which of two starts can be learned from, and which is taken."""
    for row in Golden(folder, ACTIVATIONS).entry["entries"]["teacher_filter"]["rows"]:
        student, teacher = torch.tensor(row["similarities"]).view(2, 1, 2).unbind()
        choice = choose(student, teacher)
        yield choice.teachable[0].tolist(), int(choice.best), row["teachable"], row["best"]


def table(folder: Path = FOLDER) -> str:
    """Markdown: per entry the largest relative error of its values and of its gradients."""
    lines = ["| case | entry | values | gradients |", "|---|---|---|---|"]
    for name, entry in ENTRIES.items():
        golden = Golden(folder, entry.file)
        found = list(errors(golden, name, entry.run))
        columns = [
            f"{max(kind):.1e}" if (kind := [e.error for e in found if e.tensor.startswith(prefix)]) else ""
            for prefix in ("output", "gradient")
        ]
        lines.append(f"| {golden.entry['case']} | {name} | {' | '.join(columns)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER))
