"""Who a rendered person is: twenty factors that stay the same over all pictures of that person."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

CLASS_WORDS = ("man", "woman", "boy", "girl", "young man", "young woman")
AGE_GROUPS = ("child", "young", "adult")
HAIR_STYLES = ("bald", "short", "parted", "bob", "long", "curly", "bun", "spiky")
HAIR_COLOURS = ("black", "brown", "chestnut", "blond", "ginger", "white", "red", "blue")
BEARDS = ("none", "full beard", "moustache", "goatee")
EYE_COLOURS = ("brown", "amber", "green", "blue", "grey")
SKIN_TONES = ("pale", "fair", "tan", "brown", "dark")

# Words for a measurement below -0.35 and above 0.35; between them a caption writer would not notice it.
SHAPE_WORDS = {
    "width": ("narrow face", "wide face"),
    "height": ("short face", "long face"),
    "jaw": ("pointed jaw", "square jaw"),
    "eye_gap": ("close eyes", "distant eyes"),
    "eye_size": ("small eyes", "big eyes"),
    "brow_thickness": ("thin brows", "thick brows"),
    "brow_angle": ("sad brows", "angry brows"),
    "nose_length": ("short nose", "long nose"),
    "nose_width": ("thin nose", "broad nose"),
    "mouth_width": ("small mouth", "large mouth"),
    "lips": ("thin lips", "full lips"),
    "ears": ("small ears", "big ears"),
}
NOTICEABLE = 0.35

# Which hair styles a draw may give, with their odds, by gender and age.
_HAIR_OF_WOMEN = {"short": 0.05, "parted": 0.10, "bob": 0.25, "long": 0.30, "curly": 0.12, "bun": 0.18}
_HAIR_OF_BOYS = {"short": 0.46, "parted": 0.20, "curly": 0.12, "spiky": 0.15, "long": 0.07}
_HAIR_OF_MEN = {**_HAIR_OF_BOYS, "short": 0.32, "bald": 0.14}
_BEARDS_OF_MEN = {"none": 0.40, "full beard": 0.25, "moustache": 0.18, "goatee": 0.17}
_BEARDS_OF_YOUNG_MEN = {"none": 0.80, "moustache": 0.10, "goatee": 0.10}


@dataclass(frozen=True)
class Identity:
    """One person. Shape factors lie in -1..1, `skin` in 0 (pale)..1 (dark); the others index the tuples above.

    Raises ValueError for a factor out of its range.
    """

    skin: float
    width: float
    height: float
    jaw: float
    eye_gap: float
    eye_size: float
    eye_height: float
    brow_thickness: float
    brow_angle: float
    nose_length: float
    nose_width: float
    mouth_width: float
    lips: float
    ears: float
    eye_colour: int
    hair_style: int
    hair_colour: int
    beard: int
    age: int
    female: int

    def __post_init__(self) -> None:
        problems = []
        for name in CONTINUOUS:
            low = 0.0 if name == "skin" else -1.0
            if not low <= getattr(self, name) <= 1:
                problems.append(f"{name} must lie in {low:g}..1, got {getattr(self, name)}")
        for name, count in DISCRETE.items():
            value = getattr(self, name)
            if isinstance(value, float) or not 0 <= value < count:
                problems.append(f"{name} must be an integer in 0..{count - 1}, got {value!r}")
        if problems:
            raise ValueError("not a person: " + "; ".join(problems))

    @staticmethod
    def sample(rng: np.random.Generator) -> Identity:
        """A random person: shapes, skin and colours uniform, hair and beard by gender and age."""
        female, age = int(rng.random() < 0.5), int(rng.choice(3, p=[0.25, 0.35, 0.40]))
        hair = _HAIR_OF_WOMEN if female else _HAIR_OF_MEN if age == 2 else _HAIR_OF_BOYS
        beards = {"none": 1.0} if female or age == 0 else _BEARDS_OF_MEN if age == 2 else _BEARDS_OF_YOUNG_MEN
        shapes = {name: float(rng.uniform(-1, 1)) for name in CONTINUOUS if name != "skin"}
        return Identity(
            skin=float(rng.random()),
            **shapes,
            eye_colour=int(rng.integers(len(EYE_COLOURS))),
            hair_style=_draw(rng, hair, HAIR_STYLES),
            hair_colour=int(rng.integers(len(HAIR_COLOURS))),
            beard=_draw(rng, beards, BEARDS),
            age=age,
            female=female,
        )

    @property
    def class_word(self) -> str:
        """One of the six words that a prompt calls this person."""
        return CLASS_WORDS[(2, 4, 0)[self.age] + self.female]

    @property
    def skin_tone(self) -> str:
        return SKIN_TONES[min(int(self.skin * len(SKIN_TONES)), len(SKIN_TONES) - 1)]

    def factors(self) -> np.ndarray:
        """float32 (20,): the continuous factors, then the discrete ones as numbers, in the order of the fields."""
        return np.array([getattr(self, field.name) for field in fields(self)], np.float32)

    def main_traits(self) -> list[str]:
        """What anyone would mention: hair, skin, beard, eyes."""
        colour = HAIR_COLOURS[self.hair_colour]
        hair = "bald head" if self.hair_style == 0 else f"{HAIR_STYLES[self.hair_style]} {colour} hair"
        beard = [BEARDS[self.beard]] if self.beard else []
        return [hair, f"{self.skin_tone} skin", *beard, f"{EYE_COLOURS[self.eye_colour]} eyes"]

    def fine_traits(self) -> list[str]:
        """Measurements that stand out, the most unusual first."""
        out = [name for name in SHAPE_WORDS if abs(getattr(self, name)) > NOTICEABLE]
        out.sort(key=lambda name: -abs(getattr(self, name)))
        return [SHAPE_WORDS[name][int(getattr(self, name) > 0)] for name in out]


CONTINUOUS = tuple(field.name for field in fields(Identity) if field.type == "float")
DISCRETE = {
    "eye_colour": len(EYE_COLOURS),
    "hair_style": len(HAIR_STYLES),
    "hair_colour": len(HAIR_COLOURS),
    "beard": len(BEARDS),
    "age": len(AGE_GROUPS),
    "female": 2,
}


def _draw(rng: np.random.Generator, odds: dict[str, float], names: tuple[str, ...]) -> int:
    weights = np.array(list(odds.values()))
    return names.index(str(rng.choice(list(odds), p=weights / weights.sum())))
