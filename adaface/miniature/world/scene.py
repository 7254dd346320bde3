"""What a prompt controls (`Scene`) and what no prompt mentions (`Nuisance`)."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields

import numpy as np

PLACES = (
    *("studio", "beach", "forest", "snow", "city", "desert", "office", "mountain", "library", "space", "kitchen"),
    "garden",
)
CLOTHES = (
    *("plain shirt", "red shirt", "blue suit", "armor", "chef uniform", "green hoodie", "yellow raincoat"),
    *("black jacket", "striped shirt", "purple dress", "spacesuit", "orange sweater"),
)
HEADWEAR = ("none", "hat", "crown", "helmet")
EYEWEAR = ("none", "glasses", "sunglasses")
STYLES = ("photo", "pencil sketch", "oil painting", "pixel art")
LIGHTS = ("plain", "sunset", "neon")

# The first word of each is what a scene has when nothing is said.
VOCABULARY = {
    "place": PLACES,
    "clothing": CLOTHES,
    "headwear": HEADWEAR,
    "eyewear": EYEWEAR,
    "style": STYLES,
    "light": LIGHTS,
}


@dataclass(frozen=True)
class Scene:
    """Six words. Raises ValueError for words that are not in `VOCABULARY`, all at once."""

    place: str = "studio"
    clothing: str = "plain shirt"
    headwear: str = "none"
    eyewear: str = "none"
    style: str = "photo"
    light: str = "plain"

    def __post_init__(self) -> None:
        problems = []
        for field, words in VOCABULARY.items():
            word = getattr(self, field)
            if word not in words:
                near = difflib.get_close_matches(str(word), words, n=1)
                hint = f"did you mean `{near[0]}`? " if near else ""
                problems.append(f"unknown {field} `{word}`: {hint}known are {', '.join(words)}")
        if problems:
            raise ValueError("; ".join(problems))

    @staticmethod
    def sample(rng: np.random.Generator, *, styles: bool = True, lights: bool = True) -> Scene:
        """A random scene; with `styles` and `lights` off always a photograph in plain light."""
        return Scene(
            place=_mostly(rng, PLACES, 0.10),
            clothing=_mostly(rng, CLOTHES, 0.15),
            headwear=_mostly(rng, HEADWEAR, 0.65),
            eyewear=_mostly(rng, EYEWEAR, 0.70),
            style=_mostly(rng, STYLES, 0.70) if styles else STYLES[0],
            light=_mostly(rng, LIGHTS, 0.75) if lights else LIGHTS[0],
        )

    def factors(self) -> np.ndarray:
        """int64 (6,): the index of each word in its list of `VOCABULARY`."""
        return np.array([VOCABULARY[f.name].index(getattr(self, f.name)) for f in fields(self)])


@dataclass(frozen=True)
class Nuisance:
    """Pose, expression, framing and illumination of one picture, and a seed for what is left to chance."""

    yaw: float = 0.0  # radians; positive turns the nose to the right of the picture
    pitch: float = 0.0  # radians; positive turns it down
    roll: float = 0.0  # radians; positive leans the head clockwise in the picture
    smile: float = 0.4  # -1..1
    mouth_open: float = 0.0  # 0..1
    scale: float = 0.30  # half the height of the face, as a share of the height of the picture
    dx: float = 0.0  # centre of the face from the centre of the picture, in shares of its width and height
    dy: float = -0.04
    side_light: float = 0.0  # -1..1; how much brighter the right side is than the left
    exposure: float = 1.0  # factor on all brightness
    seed: int = 0  # which variant of the place, jewellery, grain of a style

    def __post_init__(self) -> None:
        problems = [
            f"{name} must lie in {low:g}..{high:g}, got {getattr(self, name)}"
            for name, (low, high) in _NUISANCE_RANGES.items()
            if not low <= getattr(self, name) <= high
        ]
        if problems:
            raise ValueError("impossible picture: " + "; ".join(problems))

    @staticmethod
    def sample(rng: np.random.Generator) -> Nuisance:
        """What ordinary portraits vary in: the face looks roughly into the camera and fills over half the height."""
        return Nuisance(
            yaw=float(np.clip(rng.normal(0, 0.20), -0.5, 0.5)),
            pitch=float(np.clip(rng.normal(0, 0.10), -0.3, 0.3)),
            roll=float(np.clip(rng.normal(0, 0.06), -0.2, 0.2)),
            smile=float(rng.uniform(-0.3, 1)),
            mouth_open=float(max(0.0, rng.uniform(-0.8, 0.9))),
            scale=float(rng.uniform(0.28, 0.315)),
            dx=float(rng.uniform(-0.035, 0.035)),
            dy=float(rng.uniform(-0.06, -0.015)),
            side_light=float(rng.uniform(-0.2, 0.2)),
            exposure=float(rng.uniform(0.88, 1.10)),
            seed=int(rng.integers(2**31)),
        )


_NUISANCE_RANGES = {
    "yaw": (-1.57, 1.57),
    "pitch": (-1.0, 1.0),
    "roll": (-3.15, 3.15),
    "smile": (-1.0, 1.0),
    "mouth_open": (0.0, 1.0),
    "scale": (0.005, 2.0),
    "dx": (-1.0, 1.0),
    "dy": (-1.0, 1.0),
    "side_light": (-1.0, 1.0),
    "exposure": (0.0, 10.0),
    "seed": (0, 2**32),
}


def _mostly(rng: np.random.Generator, words: tuple[str, ...], first: float) -> str:
    """The first word with probability `first`, else one of the others."""
    return words[0] if rng.random() < first else words[int(rng.integers(1, len(words)))]
