"""Prompts with people in them -> the text states that a Stable Diffusion 1.5 pipeline takes instead of prompts.

The pipeline's own tokenizer and text encoder run, with whatever LoRAs and textual inversions they have; a subject's
vectors replace token embeddings while they do, and nothing of the pipeline is changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from adaface.encoder.clip_text import embed_with_runs
from adaface.subjects.prompt_tokens import LongPrompts, PromptTokenizer, Window
from adaface.subjects.prompt_weights import weigh

# The original's, of its wrapper, app and scripts alike; after PuLID's.
ORIGINAL_NEGATIVE = (
    "flaws in the eyes, flaws in the face, lowres, non-HDRi, low quality, worst quality, artifacts, noise, text, "
    "watermark, glitch, mutated, ugly, disfigured, hands, partially rendered objects, partially rendered eyes, "
    "deformed eyeballs, cross-eyed, blurry, mutation, duplicate, out of frame, cropped, mutilated, bad anatomy, "
    "deformed, bad proportions, nude, naked, nsfw, topless, bare breasts"
)


@torch.no_grad()
def prompt_states(
    pipe: Any,
    prompts: str | Sequence[str],
    vectors: Mapping[str, Tensor],
    *,
    negative_prompt: str | Sequence[str] | None = ORIGINAL_NEGATIVE,
    images_per_prompt: int = 1,
    clip_skip: int | None = None,
    layer_weights: Sequence[float] | None = None,
    long_prompts: LongPrompts = "refuse",
    lora_scale: float | None = None,
) -> dict[str, Tensor]:
    """`prompt_embeds` and `negative_prompt_embeds` for `pipe(**...)`.

    Args:
        pipe: a diffusers pipeline of Stable Diffusion 1.5's kind.
        prompts: B prompts, with the weights of `adaface.subjects.prompt_weights`.
        vectors: {token: (K, D)} token embeddings of the subjects. Their tokens are looked for in the prompts only, not
            in the negative ones. Empty: the same states as `pipe.encode_prompt`, bit for bit.
        negative_prompt: one for all or one each, with weights too; None is the empty prompt.
        images_per_prompt: rows per prompt, next to one another; leave `num_images_per_prompt` of the pipeline at 1.
        clip_skip: diffusers': 1 takes the states before the last layer. As there, negative prompts are not affected.
        layer_weights: instead of it, weights of the last layers, the last for the last layer, whose mean goes through
            the final norm; the original's evaluation has (1, 1). Negative prompts have them too, as there.
        long_prompts: what to do with prompts of more tokens than the window: "refuse", or "chunk", several windows
            next to one another, negative and shorter prompts padded with empty ones. Vectors of a subject and words
            are never cut. `ORIGINAL_NEGATIVE` alone, which is 22 tokens too long for CLIP's window, is cut there
            unless prompts are chunked: the original has diffusers do the same.
        lora_scale: of LoRAs on the text encoder, as `cross_attention_kwargs={"scale": ...}` sets it for plain prompts.

    Returns:
        Two tensors (B * images_per_prompt, T * chunks, D) on the pipeline's device, in the text encoder's dtype.

    Raises:
        ValueError: for values out of range, prompts that are too long (each with how many tokens it is over), and
            tokens that do not go with the pipeline; all of them at once.
    """
    prompts = [prompts] if isinstance(prompts, str) else list(prompts)
    if negative_prompt is None or isinstance(negative_prompt, str):
        negatives = [negative_prompt or ""] * len(prompts)
    else:
        negatives = list(negative_prompt)
    _check(pipe, prompts, negatives, images_per_prompt, clip_skip, layer_weights, long_prompts)
    tokenizer = PromptTokenizer(pipe, {token: len(rows) for token, rows in vectors.items()})
    problems: list[str] = []
    positive = _rows(tokenizer, prompts, long_prompts, problems, "prompt", subjects=True)
    negative = _rows(tokenizer, negatives, long_prompts, problems, "negative prompt", subjects=False)
    if problems:
        raise ValueError("\n".join(problems))
    chunks = max(len(row) for row in positive + negative)
    empty = tokenizer.windows([], "refuse")
    for row in positive + negative:
        row += empty * (chunks - len(row))

    skipping = None if clip_skip is None else [1.0] + [0.0] * clip_skip
    with _lora_scale(pipe, lora_scale):
        # two calls, as the pipeline makes: one call of both would differ from it in the last bits
        states = _encode(pipe, positive, vectors, skipping or layer_weights, images_per_prompt)
        without = _encode(pipe, negative, {}, layer_weights, images_per_prompt)
    return {"prompt_embeds": states, "negative_prompt_embeds": without}


def _check(
    pipe: Any,
    prompts: list[str],
    negatives: list[str],
    images_per_prompt: int,
    clip_skip: int | None,
    layer_weights: Sequence[float] | None,
    long_prompts: str,
) -> None:
    layers = pipe.text_encoder.config.num_hidden_layers
    problems = []
    if not prompts:
        problems.append("there is no prompt")
    if any(not isinstance(text, str) for text in [*prompts, *negatives]):
        problems.append("prompts and negative prompts must be strings")
    if len(negatives) != len(prompts):
        problems.append(f"{len(negatives)} negative prompts do not go with {len(prompts)} prompts")
    if images_per_prompt < 1:
        problems.append(f"images_per_prompt must be at least 1, not {images_per_prompt}")
    if clip_skip is not None and not 0 <= clip_skip <= layers:
        problems.append(f"clip_skip must be in 0..{layers} for this text encoder, not {clip_skip}")
    if layer_weights is not None:
        if clip_skip is not None:
            problems.append("clip_skip and layer_weights exclude each other")
        if not 1 <= len(layer_weights) <= layers + 1 or min(layer_weights) < 0 or sum(layer_weights) <= 0:
            problems.append(
                f"layer_weights must be 1 to {layers + 1} numbers, none negative and not all 0, "
                f"not {list(layer_weights)}"
            )
    if long_prompts not in ("refuse", "chunk"):
        problems.append(f"long_prompts must be 'refuse' or 'chunk', not {long_prompts!r}")
    if problems:
        raise ValueError("; ".join(problems))


def _rows(
    tokenizer: PromptTokenizer,
    texts: list[str],
    long_prompts: LongPrompts,
    problems: list[str],
    kind: str,
    *,
    subjects: bool,
) -> list[list[Window]]:
    """The windows of each prompt; what is wrong with them is added to `problems`, once for equal ones."""
    known: dict[str, list[Window]] = {}
    for number, text in enumerate(texts, start=1):
        if text in known:
            continue
        units = tokenizer.units(text, subjects=subjects)
        if not subjects and text == ORIGINAL_NEGATIVE and long_prompts == "refuse":
            known[text] = tokenizer.cut(units)
            continue
        try:
            known[text] = tokenizer.windows(units, long_prompts)
        except ValueError as error:
            known[text] = []
            shown = text if len(text) <= 60 else text[:57] + "..."
            problems.append(f"{kind} {number} ({shown!r}): {error}")
    return [list(known[text]) for text in texts]


def _encode(
    pipe: Any,
    rows: list[list[Window]],
    vectors: Mapping[str, Tensor],
    layer_weights: Sequence[float] | None,
    images_per_prompt: int,
) -> Tensor:
    """(B * images_per_prompt, T * chunks, D); one call of the text encoder."""
    text, device = pipe.text_encoder, pipe._execution_device
    windows = [window for row in rows for window in row]
    tokens = torch.tensor([window.tokens for window in windows], device=device)
    embeddings = mask = None
    if any(window.subjects for window in windows):
        embeddings = torch.zeros(*tokens.shape, text.config.hidden_size, device=device)
        mask = torch.zeros(tokens.shape, dtype=torch.bool, device=device)
        for number, window in enumerate(windows):
            for at, token in window.subjects:
                places = slice(at, at + len(vectors[token]))
                embeddings[number, places] = vectors[token].to(embeddings)
                mask[number, places] = True
    shares = None if layer_weights is None else torch.tensor(layer_weights, dtype=torch.float32, device=device)
    states = embed_with_runs(text, tokens, embeddings, mask, layer_weights=shares)
    states = weigh(states, torch.tensor([window.weights for window in windows], device=device))
    states = states.to(device=device, dtype=text.dtype).reshape(len(rows), -1, states.shape[-1])
    return states.repeat_interleave(images_per_prompt, dim=0)


@contextmanager
def _lora_scale(pipe: Any, scale: float | None) -> Iterator[None]:
    """LoRA layers of the text encoder at `scale`, as `pipe.encode_prompt(lora_scale=...)` has them."""
    if scale is None:
        yield
        return
    from diffusers.utils import USE_PEFT_BACKEND, scale_lora_layers, unscale_lora_layers

    if not USE_PEFT_BACKEND:
        raise ValueError("lora_scale needs LoRAs, and those need the package peft: pip install peft")
    scale_lora_layers(pipe.text_encoder, scale)
    try:
        yield
    finally:
        unscale_lora_layers(pipe.text_encoder, scale)
