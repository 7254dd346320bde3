"""What people call their folders and what cameras call their files."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

_FIRST = (
    ("Jonas", "Mateo", "Kwame", "Pierre", "Łukasz", "Anders", "Tomás", "Günther", "Иван", "João", "Arjun", "Sam"),
    ("Ana", "Zoë", "Chloé", "Ingrid", "Aminata", "Małgorzata", "Ольга", "Priya", "Márta", "Lucía", "Rosa", "Kim"),
)  # men, women
_LAST = (
    *("Petrović", "Nguyen", "O'Neil", "van der Berg", "García", "Okafor", "Müller", "Smith", "Östlund", "Rossi"),
    *("Новак", "Haddad", "Silva", "Yılmaz", "Kowalska", "Tanaka", "Dupont", "Larsen", "Mehta", "Brown"),
)
_WHOLE = (("田中 健", "김민준", "Νίκος Παππάς"), ("山田 花子", "이서연", "Ελένη Κώστα"))
_EVENTS = ("Holiday", "Geburtstag", "été à la plage", "Wedding Anna & Jan", "Summer camp", "家族旅行", "New flat")
_FIRST_DAY = datetime(2015, 1, 1, tzinfo=UTC)


def folder_name(rng: np.random.Generator, female: bool, taken: set[str]) -> str:
    """A name for a person's folder that is not in `taken` (case folded), which it is added to."""
    if rng.random() < 0.08:
        name = str(rng.choice(_WHOLE[female]))
    else:
        first, last = str(rng.choice(_FIRST[female])), str(rng.choice(_LAST))
        name = str(rng.choice([f"{first} {last}", f"{last}, {first}", f"{first}_{last}".lower(), first]))
    return unused(name, "", taken)


def unused(stem: str, ending: str, taken: set[str]) -> str:
    """`stem` + `ending`, with a number between them where that is taken: many file systems ignore case."""
    name, number = stem + ending, 2
    while name.casefold() in taken:
        name, number = f"{stem} {number}{ending}", number + 1
    taken.add(name.casefold())
    return name


class Camera:
    """One photographer's camera and habits: how the files are numbered, how often pictures are taken."""

    def __init__(self, rng: np.random.Generator):
        self._rng = rng
        self.make = str(rng.choice(["Lumen", "Arcadia", "Pico"]))
        self.model = f"{self.make} {rng.choice(['X', 'Z', 'S'])}{rng.integers(1, 90)}"
        self._style, self._number = int(rng.integers(5)), int(rng.integers(1, 8000))
        self._event = str(rng.choice(_EVENTS))
        self._now = _FIRST_DAY + timedelta(minutes=int(rng.integers(8 * 365 * 24 * 60)))

    def next_photo(self, taken: set[str]) -> tuple[str, datetime]:
        """A file name that is not in `taken` (case folded), which it is added to, and a date after the last one."""
        self._now += timedelta(seconds=int(self._rng.exponential(20 * 24 * 3600)) + 1)
        self._number += int(self._rng.integers(1, 9))
        stem, ending = (
            (f"IMG_{self._number:04d}", ".JPG"),
            (f"DSC{self._number:05d}", ".JPG"),
            (f"{self._now:%Y-%m-%d %H.%M.%S}", ".jpg"),
            (f"{self._event} {self._number % 100}", ".jpg"),
            (f"photo ({self._number % 1000})", ".jpeg"),
        )[self._style]
        return unused(stem, ending, taken), self._now
