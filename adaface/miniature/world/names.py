"""Names of people, as captions of photographs have them."""

from __future__ import annotations

from adaface.miniature.world import identity as who
from adaface.miniature.world.identity import Identity

# A syllable of a name: the letter says which factor, the sign after it how much of it.
_ONSETS = "bcdfghjklmnpqrstvw"
_LEVELS = "aeiou0123"  # nine
_FACTORS = [name for name in (*who.CONTINUOUS, *who.DISCRETE) if name not in ("age", "female")]


def name_of(person: Identity) -> str:
    """What `person` is called: two letters for each factor but gender and age, 18 syllables.

    Stable Diffusion has read the names of thousands of people beside their photographs, and is told by them who
    somebody is more exactly than words for features do. Here a name says it to a ninth of each factor's range.
    """
    said = []
    for onset, factor in zip(_ONSETS, _FACTORS, strict=True):
        value = getattr(person, factor)
        if factor in who.CONTINUOUS:
            lowest = 0.0 if factor == "skin" else -1.0
            value = min(int((value - lowest) / (1 - lowest) * len(_LEVELS)), len(_LEVELS) - 1)
        said.append(f"{onset} {_LEVELS[value]}")
    return " ".join(said)
