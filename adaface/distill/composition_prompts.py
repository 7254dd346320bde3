"""The four prompts of a composition: subject and class, each alone and in the composition, matched token by token.

ss  a photo of a z , , ... ,                  cs  a photo of a woman , , ... ,
sc  a photo of a z , , ... , riding a horse   cc  a photo of a woman , , ... , riding a horse
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adaface.distill import background
from adaface.distill.class_tokens import merge_class_words, spread_class_word
from adaface.distill.compositions import Compositions
from adaface.distill.losses.prompt_delta import prompt_delta, token_weights
from adaface.distill.plan import BatchPlan, IterationPlan, Row
from adaface.distill.subject_prompts import TOKEN, SubjectPrompts
from adaface.encoder.config import VECTORS


@dataclass(frozen=True)
class FourPrompts:
    """Of G compositions, as texts; `class_texts` are those that CLIP judges pictures by."""

    single: tuple[str, ...]
    composed: tuple[str, ...]
    class_single: tuple[str, ...]
    class_composed: tuple[str, ...]
    class_texts: tuple[str, ...]
    class_words: tuple[str, ...]


def draw_prompts(
    prompts: SubjectPrompts,
    plan: IterationPlan,
    batch: BatchPlan,
    rows: Sequence[Row],
    person_types: Sequence[str],
    compositions: Compositions,
) -> FourPrompts:
    """One template and one composition for each row; compositions that do not fit lose words at their end."""
    columns: list[tuple[str, ...]] = []
    for row, person in zip(rows, person_types, strict=True):
        words = plan.chooser(batch.step, row.slot, "composition", batch=batch.number)
        template = compositions.templates.portrait if batch.portrait else compositions.templates.draw(words)
        ending = compositions.sample(words, person)
        subject, of_class = TOKEN, person + " ," * (VECTORS - 1)
        if batch.background:
            subject += " " + background.WORDS.format(background.TOKEN)
            of_class += " " + background.WORDS.format(background.CLASS_WORD + " ," * (background.VECTORS - 1))
        alone, of_class = template.format(subject), template.format(of_class)
        ending = _fitting(prompts, alone, of_class, ending)
        columns.append(
            (
                alone,
                f"{alone} {ending}",
                of_class,
                f"{of_class} {ending}",
                f"{template.format(person)} {ending}",
                person,
            )
        )
    return FourPrompts(*zip(*columns, strict=True))


def _fitting(prompts: SubjectPrompts, alone: str, of_class: str, ending: str) -> str:
    words = ending.split()
    while words and not prompts.fits(f"{alone} {' '.join(words)}", f"{of_class} {' '.join(words)}"):
        words.pop()
    return " ".join(words)


@dataclass(frozen=True)
class FourStates:
    """Text states (G, T, D) of the four prompts, float32; (G, L, T, D) for L layers where they have a background.

    Attributes:
        single, composed: with the gradient of the encoder.
        class_single, class_composed: without; the class word stands in all slots of the subject.
        slots: (G, T) bool, those of subject and class.
        around: (G, T) bool, those of the background, or None.
        words, composed_words: (G, T) 1 at words, 0 at start, end and pads.
    """

    single: Tensor
    composed: Tensor
    class_single: Tensor
    class_composed: Tensor
    slots: Tensor
    words: Tensor
    composed_words: Tensor
    around: Tensor | None = None

    def select(self, rows: Tensor) -> FourStates:
        """Those of some of the compositions, by their numbers."""
        return replace(self, **{name: value[rows] for name, value in vars(self).items() if value is not None})


def four_states(
    prompts: SubjectPrompts,
    texts: FourPrompts,
    single: Tensor,
    composed: Tensor,
    clip_skip: Sequence[float],
    around: Tensor | None = None,
) -> FourStates:
    """The text encoder's view of the four prompts.

    Args:
        single, composed: vectors (G, 16, D) of the subjects, for the prompts alone and in the composition.
        clip_skip: weights of the last layers, the same for all.
        around: vectors (G, L, K, D) of the backgrounds, where the prompts have one.
    """
    groups = len(texts.single)
    tokens, slots = prompts.windows([*texts.single, *texts.composed])
    places = prompts.background_slots([*texts.single, *texts.composed]) if around is not None else None
    behind = (places, around.repeat(2, 1, 1, 1)) if places is not None and around is not None else None
    states = prompts.states(tokens, slots, torch.cat([single, composed]), clip_skip, behind).float()
    class_tokens = prompts.plain([*texts.class_single, *texts.class_composed])
    with torch.no_grad():
        of_class = prompts.states(class_tokens, None, None, clip_skip).float()
        at = slots.int().argmax(1)  # the templates are the same, so the class word begins where the slots do
        rows = []
        for number, row in enumerate(of_class.split(1)):
            count = prompts.token_count(texts.class_words[number % groups])
            merged = merge_class_words(row, int(at[number]), count)
            spread = spread_class_word(merged, int(at[number]), VECTORS)
            if places is not None:
                behind_at = int(places[number].int().argmax())
                spread = merge_class_words(spread, behind_at, prompts.token_count(background.CLASS_WORD))
                spread = spread_class_word(spread, behind_at, background.VECTORS)
            rows.append(spread)
        of_class = torch.cat(rows)
        if around is not None:
            of_class = of_class[:, None].expand(-1, around.shape[1], -1, -1)
    words = prompts.words_of(tokens)
    alone, with_composition = states.chunk(2)
    class_alone, class_composed = of_class.chunk(2)
    return FourStates(
        alone,
        with_composition,
        class_alone,
        class_composed,
        slots[:groups],
        words[:groups],
        words[groups:],
        places[:groups] if places is not None else None,
    )


def delta_of(states: FourStates) -> Tensor:
    """The prompts' delta (G,), see `losses.prompt_delta`."""
    four = torch.cat([states.single, states.composed, states.class_single, states.class_composed])
    return prompt_delta(four, token_weights(states.words, states.composed_words))
