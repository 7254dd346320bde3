"""From a prompt to rows of token ids of the text encoder's window, with the slots where a subject's vectors go.

A subject's token is found as the original finds it: a whole word, case-sensitive, every occurrence. A prompt that names
none of the subjects gets all of them put in front.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from adaface.subjects.prompt_weights import parse

LongPrompts = Literal["refuse", "chunk"]


@dataclass(frozen=True)
class Unit:
    """Tokens that stay together: one word, one textual inversion, or the slots of one subject."""

    ids: tuple[int, ...]
    weight: float = 1.0
    subject: str | None = None


@dataclass
class Window:
    """One row of the text encoder's input."""

    tokens: list[int]  # (T,) with BOS, EOS and padding
    weights: list[float]  # (T,), 1 where the prompt says nothing
    subjects: list[tuple[int, str]] = field(default_factory=list)  # first slot, token


class PromptTokenizer:
    """A pipeline's tokenizer, with subjects in it.

    Args:
        pipe: a diffusers pipeline with a CLIP tokenizer; its textual inversions are understood as it does itself.
        lengths: {token: number of vectors} of the subjects.

    Raises ValueError for a subject whose token the pipeline has as a textual inversion, and for one with more vectors
    than the window has room.
    """

    def __init__(self, pipe: Any, lengths: Mapping[str, int]):
        self.pipe, self.tokenizer, self.lengths = pipe, pipe.tokenizer, dict(lengths)
        positions = pipe.text_encoder.config.max_position_embeddings
        self.window = min(self.tokenizer.model_max_length, positions)
        self.room = self.window - 2  # BOS and EOS
        special = set(self.tokenizer.all_special_ids)
        self._added = {text: at for text, at in self.tokenizer.get_added_vocab().items() if at not in special}
        taken = [token for token in lengths if token in self._added]
        if taken:
            raise ValueError(
                f"the pipeline already has a textual inversion named {' and '.join(taken)}; give the subject another "
                "token, e.g. subject(..., token='w')"
            )
        long = [f"{token} ({number} vectors)" for token, number in lengths.items() if number > self.room]
        if long:
            raise ValueError(f"the window of {self.room} tokens has no room for {', '.join(long)}")
        words = sorted(map(re.escape, lengths), key=len, reverse=True)
        inversions = sorted(map(re.escape, self._added), key=len, reverse=True)
        # inversions first: the subject z is no word of the inversion <z>
        self._names = re.compile("|".join([*inversions, rf"(?<!\w)(?P<subject>{'|'.join(words)})(?!\w)"]))
        # any id will do where a vector replaces the embedding, but for EOS, which some models look for
        self._filler = self.tokenizer.bos_token_id

    def units(self, prompt: str, *, subjects: bool = True) -> list[Unit]:
        """The prompt in pieces that are never cut; with `subjects` it holds at least one of them."""
        units: list[Unit] = []
        for text, weight in parse(prompt):
            start = 0
            for match in self._names.finditer(text) if subjects and self.lengths else ():
                token = match.groupdict()["subject"]
                if token is not None:
                    units += self._plain(text[start : match.start()], weight) + [self._slots(token, weight)]
                    start = match.end()
            units += self._plain(text[start:], weight)
        if subjects and not any(unit.subject for unit in units):
            units[:0] = [self._slots(token, 1.0) for token in self.lengths]
        return units

    def windows(self, units: Sequence[Unit], long_prompts: LongPrompts) -> list[Window]:
        """One window, or with "chunk" as many as it takes.

        Raises ValueError for a prompt that is too long, with "refuse".
        """
        length = sum(len(unit.ids) for unit in units)
        if length > self.room and long_prompts == "refuse":
            slots = sum(len(unit.ids) for unit in units if unit.subject)
            of_which = f", {slots} of them the vectors of subjects" if slots else ""
            raise ValueError(
                f"{length - self.room} token{'s'[: length - self.room > 1]} too long: {length} where the window has "
                f"room for {self.room}{of_which}; shorten it, or pass long_prompts='chunk'"
            )
        filled: list[list[Unit]] = [[]]
        left = self.room
        for unit in self._fitting(units):
            if len(unit.ids) > left:
                filled.append([])
                left = self.room
            filled[-1].append(unit)
            left -= len(unit.ids)
        return [self._window(part) for part in filled]

    def cut(self, units: Sequence[Unit]) -> list[Window]:
        """One window of plain text whose end is cut off where it is too long, as diffusers does, also inside a word."""
        kept: list[Unit] = []
        left = self.room
        for unit in units:
            kept.append(replace(unit, ids=unit.ids[:left]))
            left -= len(kept[-1].ids)
        return [self._window(kept)]

    def _window(self, units: Sequence[Unit]) -> Window:
        tokens, weights = [self.tokenizer.bos_token_id], [1.0]
        subjects = []
        for unit in units:
            if unit.subject:
                subjects.append((len(tokens), unit.subject))
            tokens += unit.ids
            weights += [unit.weight] * len(unit.ids)
        tokens.append(self.tokenizer.eos_token_id)
        tokens += [self.tokenizer.pad_token_id] * (self.window - len(tokens))
        weights += [1.0] * (self.window - len(weights))
        return Window(tokens, weights, subjects)

    def _slots(self, token: str, weight: float) -> Unit:
        return Unit((self._filler,) * self.lengths[token], weight, token)

    def _plain(self, text: str, weight: float) -> list[Unit]:
        """A unit per word; the tokens of one textual inversion are one unit."""
        if self._added and hasattr(self.pipe, "maybe_convert_prompt"):
            text = self.pipe.maybe_convert_prompt(text, self.tokenizer)  # the further tokens of an inversion
        ids = self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        added = set(self._added.values())
        units: list[list[int]] = []
        open_word = False
        for token, piece in zip(ids, self.tokenizer.convert_ids_to_tokens(ids), strict=True):
            if units and (open_word or (token in added and self._continues(units[-1], piece))):
                units[-1].append(token)
            else:
                units.append([token])
            open_word = token not in added and not piece.endswith("</w>")
        return [Unit(tuple(unit), weight) for unit in units]

    def _continues(self, unit: list[int], piece: str) -> bool:
        """Whether `piece` is the next vector of the textual inversion that `unit` holds: name, name_1, name_2, ..."""
        return piece == f"{self.tokenizer.convert_ids_to_tokens(unit[0])}_{len(unit)}"

    def _fitting(self, units: Sequence[Unit]) -> list[Unit]:
        """The units, with those of plain text that are longer than a whole window cut to its size."""
        fitting = []
        for unit in units:
            for start in range(0, len(unit.ids), self.room):
                fitting.append(replace(unit, ids=unit.ids[start : start + self.room]))
        return fitting
