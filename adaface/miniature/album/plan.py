"""Which photographs an album holds: who is in each, what is wrong with it, where it lies. Nothing is drawn here."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from adaface.miniature.album.faults import PICTURES
from adaface.miniature.album.names import Camera, folder_name, unused
from adaface.miniature.album.photo_file import Jpeg
from adaface.miniature.world.identity import Identity

GOOD = "good"
# In folders of a person; photos of the flat folder carry no name, so none of them can be of the wrong person.
FAULTS = (*list(PICTURES)[1:], "wrong_person", "exact_duplicate", "near_duplicate", "broken")
FLAT_FAULTS = tuple(kind for kind in FAULTS if kind != "wrong_person")
COPIES = ("exact_duplicate", "near_duplicate")

PEOPLE, FLAT = "people", "flat"
MAX_FILES = 1_000_000
MAX_FAULTS = 0.5
# First number of all random seeds of albums: the people in them are nobody that a network was trained on.
_SEED = 880_001
_PERSON, _STRANGER, _FOLDER, _PHOTO = range(4)  # what a random generator is for


@dataclass(frozen=True)
class AlbumSize:
    """How large an album is to be. Raises ValueError with everything that is impossible about it."""

    identities: int  # folders of people
    images: int  # files in each
    faults: float  # share of the files that are faulty
    flat: int  # files in the flat folder, of as many strangers
    seed: int = 0
    studio: float = 0.0  # share of the photos without a fault that are plain portraits in a studio

    def __post_init__(self) -> None:
        problems = [
            f"{name} must be an integer from {least}, got {value!r}"
            for name, value, least in (
                ("identities", self.identities, 1),
                ("images", self.images, 1),
                ("flat", self.flat, 0),
                ("seed", self.seed, 0),
            )
            if isinstance(value, bool) or not isinstance(value, int) or value < least
        ]
        if not (isinstance(self.faults, int | float) and 0 <= self.faults <= MAX_FAULTS):  # refuses NaN, too
            problems.append(
                f"faults must be a share from 0 to {MAX_FAULTS}, got {self.faults!r}: a folder must be about its person"
            )
        elif self.faults and self.images == 1:
            problems.append("faults need at least 2 images of each person, so that there is one to compare with")
        if not (isinstance(self.studio, int | float) and 0 <= self.studio <= 1):
            problems.append(f"studio must be a share from 0 to 1, got {self.studio!r}")
        if not problems and self.files > MAX_FILES:
            problems.append(f"{self.files:,} files are more than the {MAX_FILES:,} that an album may have")
        if problems:
            raise ValueError("no album can be made: " + "; ".join(problems))

    @property
    def files(self) -> int:
        return self.identities * self.images + self.flat


@dataclass(frozen=True)
class Photo:
    """One file of an album."""

    path: str  # in the album, with "/"
    folder: str  # the person the folder is about; "" in the flat folder
    person: str  # who is in the picture
    kind: str
    identity: Identity
    seed: tuple[int, ...]  # of everything about the picture but who is in it
    jpeg: Jpeg
    copy_of: Photo | None = None
    studio: bool = False


def plan_album(size: AlbumSize) -> Iterator[Photo]:
    """Every file of an album, folder by folder."""
    people = [Identity.sample(_rng(size, _PERSON, number)) for number in range(size.identities)]
    taken: set[str] = set()
    names = [folder_name(_rng(size, _FOLDER, i, 0), bool(who.female), taken) for i, who in enumerate(people)]
    order = _kinds_in_turn(FAULTS, _rng(size, _FOLDER, size.identities))
    for number, name in enumerate(names):
        # spread evenly: no folder has more than one fault more than another
        faults = math.floor((number + 1) * size.images * size.faults + 1e-9) - math.floor(
            number * size.images * size.faults + 1e-9
        )
        faults = min(faults, size.images - 1)
        kinds = _shuffled([next(order) for _ in range(faults)], size.images, _rng(size, _FOLDER, number, 1))
        yield from _folder(size, number, name, kinds, people, names)
    order = _kinds_in_turn(FLAT_FAULTS, _rng(size, _FOLDER, size.identities, 2))
    faults = min(math.floor(size.flat * size.faults + 1e-9), max(0, size.flat - 1))
    kinds = _shuffled([next(order) for _ in range(faults)], size.flat, _rng(size, _FOLDER, size.identities, 1))
    yield from _folder(size, size.identities, "", kinds, people, names)


def _folder(
    size: AlbumSize, number: int, name: str, kinds: list[str], people: list[Identity], names: list[str]
) -> Iterator[Photo]:
    """The files of folder `number`; its person's, or strangers' where it has no name."""
    rng = _rng(size, _FOLDER, number, 3)
    camera, taken = Camera(rng), set[str]()
    root = f"{PEOPLE}/{name}" if name else FLAT
    photos: dict[int, Photo] = {}
    # a stream of its own: the share changes nothing else about an album
    studio = _rng(size, _FOLDER, number, 4).random(len(kinds)) < size.studio
    for index, kind in enumerate(kinds):
        if not name:
            camera = Camera(rng)  # everybody has their own
        file, date = camera.next_photo(taken)
        jpeg = Jpeg.sample(rng, camera.make, camera.model, date)
        if kind in COPIES:
            continue
        who, person = (
            _other(size, number, index, people, names, rng)
            if kind == "wrong_person"
            else (people[number], name)
            if name
            else _stranger(size, number, index)
        )
        seed = (_SEED, size.seed, _PHOTO, number, index)
        photos[index] = Photo(f"{root}/{file}", name, person, kind, who, seed, jpeg, studio=bool(studio[index]))
    originals = list(rng.permutation([index for index in photos if photos[index].kind == GOOD]))
    for index, kind in enumerate(kinds):
        if kind in COPIES:
            original = photos[int(originals[0])]
            originals = originals[1:] + originals[:1]
            photos[index] = _copy(original, kind, taken, rng)
    for index in sorted(photos):
        yield photos[index]


def _other(
    size: AlbumSize, number: int, index: int, people: list[Identity], names: list[str], rng: np.random.Generator
) -> tuple[Identity, str]:
    """Somebody of another folder, or a stranger."""
    if len(people) == 1 or rng.random() < 0.5:
        return _stranger(size, number, index)
    other = (number + int(rng.integers(1, len(people)))) % len(people)
    return people[other], names[other]


def _stranger(size: AlbumSize, number: int, index: int) -> tuple[Identity, str]:
    return Identity.sample(_rng(size, _STRANGER, number, index)), f"stranger {number}-{index}"


def _copy(original: Photo, kind: str, taken: set[str], rng: np.random.Generator) -> Photo:
    """The same file again, or the same picture after a messenger or an editor had it."""
    folder, _, file = original.path.rpartition("/")
    stem, dot, ending = file.rpartition(".")
    if kind == "exact_duplicate":
        name = unused(str(rng.choice([f"{stem} (1)", f"Copy of {stem}", f"{stem} - Kopie"])), dot + ending, taken)
        return replace(original, path=f"{folder}/{name}", kind=kind, copy_of=original)
    name = unused(
        str(rng.choice([f"{stem}_small", f"{stem}-WA{rng.integers(1000):04d}", f"{stem} shared"])), ".jpg", taken
    )
    seed = (*original.seed, 1 + int(rng.integers(1_000_000)))
    jpeg = Jpeg(quality=int(rng.integers(55, 85)))
    return replace(original, path=f"{folder}/{name}", kind=kind, seed=seed, jpeg=jpeg, copy_of=original)


def _kinds_in_turn(kinds: tuple[str, ...], rng: np.random.Generator) -> Iterator[str]:
    """Every kind equally often, in an order by chance."""
    while True:
        for index in rng.permutation(len(kinds)):
            yield kinds[index]


def _shuffled(faults: list[str], count: int, rng: np.random.Generator) -> list[str]:
    kinds = faults + [GOOD] * (count - len(faults))
    return [kinds[index] for index in rng.permutation(count)]


def _rng(size: AlbumSize, *purpose: int) -> np.random.Generator:
    return np.random.default_rng([_SEED, size.seed, *purpose])
