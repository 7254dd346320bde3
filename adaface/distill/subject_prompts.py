"""Prompts with a subject in them -> text states with a gradient to the subject's vectors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property, lru_cache
from types import SimpleNamespace

import torch
from torch import Tensor

from adaface.distill import background
from adaface.distill.models import FrozenModels
from adaface.encoder.clip_text import embed_with_runs
from adaface.encoder.config import VECTORS
from adaface.subjects.prompt_tokens import PromptTokenizer, Window

TOKEN = "z"
_SUBJECT = re.compile(rf"(?<!\w){TOKEN}(?!\w)")


class SubjectPrompts:
    """The base model's text encoder for training: one subject per prompt, one context for all layers of the UNet.

    The original encodes each prompt sixteen times, once per layer, with nothing but other noise on the vectors.
    """

    def __init__(self, models: FrozenModels) -> None:
        self.models = models
        pipe = SimpleNamespace(tokenizer=models.tokenizer, text_encoder=models.text)
        self._tokenizer = PromptTokenizer(pipe, {TOKEN: VECTORS, background.TOKEN: background.VECTORS})
        self._known: dict[str, Window] = {}
        # a step asks for the same prompt's pieces when it is drawn, when it is cut to the window, and when it is read
        self._units = lru_cache(maxsize=1024)(self._tokenizer.units)

    def windows(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Tokens int64 (B, T) and the subject's slots, bool (B, T), of prompts with `z` in them.

        Raises:
            ValueError: for a prompt that is longer than the window, or has no subject or several.
        """
        rows = [self._window(prompt) for prompt in prompts]
        tokens = torch.tensor([row.tokens for row in rows], device=self.models.device)
        return tokens, self._slots(rows, TOKEN, VECTORS)

    def background_slots(self, prompts: Sequence[str]) -> Tensor:
        """bool (B, T): those of the background token `y`; all prompts have one."""
        return self._slots([self._window(prompt) for prompt in prompts], background.TOKEN, background.VECTORS)

    def _slots(self, rows: Sequence[Window], token: str, count: int) -> Tensor:
        slots = torch.zeros(len(rows), len(rows[0].tokens), dtype=torch.bool, device=self.models.device)
        for number, row in enumerate(rows):
            (at,) = (place for place, name in row.subjects if name == token)
            slots[number, at : at + count] = True
        return slots

    def states(
        self,
        tokens: Tensor,
        slots: Tensor | None,
        vectors: Tensor | None,
        clip_skip: Sequence[float] | None,
        around: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Text states (B, T, D), float32 or the autocast's; with a background (B, L, T, D), for each of L layers.

        Args:
            tokens, slots: of `windows`; without slots the prompts are plain text.
            vectors: (B, 16, D) with their gradient.
            clip_skip: weights of the last layers, the last for the last layer; None: that one alone.
            around: slots (B, T) of the background and its vectors (B, L, K, D).
        """
        if around is not None and slots is not None and vectors is not None:
            return self._states_of_layers(tokens, slots, vectors, clip_skip, *around)
        weights = None if clip_skip is None else torch.tensor(clip_skip, device=tokens.device)
        embeddings = None
        if slots is not None and vectors is not None:
            # every row has as many slots, in order
            embeddings = torch.zeros(*tokens.shape, vectors.shape[-1], dtype=vectors.dtype, device=tokens.device)
            embeddings = embeddings.masked_scatter(slots[..., None], vectors)
        with self.models.autocast():
            return embed_with_runs(
                self.models.text, tokens, embeddings, slots if embeddings is not None else None, layer_weights=weights
            )

    def _states_of_layers(
        self,
        tokens: Tensor,
        slots: Tensor,
        vectors: Tensor,
        clip_skip: Sequence[float] | None,
        around: Tensor,
        backgrounds: Tensor,
    ) -> Tensor:
        """(B, L, T, D): the background's vectors differ from layer to layer, so every layer has a prompt of its own."""
        layers = backgrounds.shape[1]

        def repeated(x: Tensor) -> Tensor:
            return x[:, None].expand(-1, layers, *x.shape[1:]).flatten(0, 1)

        both = slots | around
        # slots are filled in their order: the subject stands before its background
        filled = torch.cat([repeated(vectors), backgrounds.flatten(0, 1).to(vectors)], dim=1)
        return self.states(repeated(tokens), repeated(both), filled, clip_skip).unflatten(0, (-1, layers))

    @cached_property
    def empty(self) -> Tensor:
        """Tokens (1, T) of the empty prompt."""
        return torch.tensor([self._tokenizer.windows([], "refuse")[0].tokens], device=self.models.device)

    def plain(self, prompts: Sequence[str]) -> Tensor:
        """Tokens (B, T) of prompts without a subject. Raises ValueError for one that is too long."""
        rows = [self._tokenizer.windows(self._units(prompt, subjects=False), "refuse")[0].tokens for prompt in prompts]
        return torch.tensor(rows, device=self.models.device)

    def fits(self, prompt: str, plain: str) -> bool:
        """Whether a prompt with a subject, and another without, both go into the window."""
        lengths = (
            sum(len(unit.ids) for unit in self._units(text, subjects=subjects))
            for text, subjects in ((prompt, True), (plain, False))
        )
        return max(lengths) <= self._tokenizer.room

    def token_count(self, words: str) -> int:
        """How many tokens a text has."""
        return sum(len(unit.ids) for unit in self._units(words, subjects=False))

    def words_of(self, tokens: Tensor) -> Tensor:
        """float32 (B, T): 1 at words and slots, 0 at start, end and pads. What follows the first end is padding."""
        ended = (tokens == self.models.tokenizer.eos_token_id).cumsum(1) > 0
        words = ~ended
        words[:, 0] = False
        return words.float()

    def _window(self, prompt: str) -> Window:
        if prompt not in self._known:
            if len(self._known) > 10_000:  # compositions hardly repeat
                self._known.clear()
            if not _SUBJECT.search(prompt):
                raise ValueError(f"a training prompt has the subject in it, as `{TOKEN}`, unlike {prompt!r}")
            (window,) = self._tokenizer.windows(self._units(prompt, subjects=True), "refuse")
            if [name for _, name in window.subjects].count(TOKEN) != 1:
                raise ValueError(f"a training prompt has the subject once, as `{TOKEN}`, unlike {prompt!r}")
            self._known[prompt] = window
        return self._known[prompt]
