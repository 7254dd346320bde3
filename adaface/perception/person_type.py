"""What sort of person somebody is, by the estimates of gender and age on several photos."""

from __future__ import annotations

import numpy as np

ANYBODY = "person"
PERSON_TYPES = ("girl", "boy", "young woman", "young man", "woman", "man", ANYBODY)


def person_type(gender: np.ndarray, age: np.ndarray) -> tuple[str, int | None, int | None]:
    """The class word of an identity, with its majority gender and median age.

    Age bands are the original's (filter_faces.py): up to 18 girl or boy, then young woman or man, from 30 woman or
    man. Where the original averages and leaves a tie undefined, we take majority and median, and call a tie "person".

    Args:
        gender: (n,) float, 1 male, 0 female, NaN unknown.
        age: (n,) float, years, NaN unknown.
    """
    gender, age = gender[~np.isnan(gender)], age[~np.isnan(age)]
    if not len(gender) or not len(age):
        return ANYBODY, None, None
    median = float(np.median(age))
    years = int(median)
    share = float(gender.mean())
    if share == 0.5:
        return ANYBODY, None, years
    male = share > 0.5
    if median <= 18:
        word = "boy" if male else "girl"
    elif median < 30:
        word = "young man" if male else "young woman"
    else:
        word = "man" if male else "woman"
    return word, int(male), years
