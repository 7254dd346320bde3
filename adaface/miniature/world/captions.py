"""What a caption writer says about a picture, and the words the miniature CLIP knows.

The traits of the person stand directly after "a photo of a": the place where a subject's tokens stand later, so that a
model trained on these captions learns to read a face from there. Some captions carry empty words (`z`, runs of commas)
around the traits, because a subject's prompt does too before its tokens are put in.
"""

from __future__ import annotations

import numpy as np

from adaface.miniature.world import identity as who
from adaface.miniature.world import scene as what
from adaface.miniature.world.identity import Identity
from adaface.miniature.world.names import name_of
from adaface.miniature.world.scene import Scene

# One is drawn per caption; the first is what `caption` says without a random generator.
_STYLE_HEADS = {
    "photo": ("a photo of", "a picture of", "a portrait of", "a close up photo of", "an image of"),
    "pencil sketch": ("a pencil sketch of", "a pencil drawing of", "a sketch of"),
    "oil painting": ("an oil painting of", "a painting of", "an oil portrait of"),
    "pixel art": ("a pixel art of", "a pixel art picture of", "pixel art of"),
}
_STYLE_TAILS = {"pencil sketch": ", pencil sketch", "oil painting": ", oil painting", "pixel art": ", pixel art"}
_PLACE_WORDS = {
    "studio": ("in a studio", "in the studio"),
    "beach": ("on the beach", "at the beach", "standing on the beach"),
    "forest": ("in the forest", "in a forest", "standing in the forest"),
    "snow": ("in the snow", "standing in the snow"),
    "city": ("in the city at night", "in a city at night"),
    "desert": ("in the desert", "in a desert"),
    "office": ("in the office", "in an office"),
    "mountain": ("on a mountain", "in front of a mountain"),
    "library": ("in the library", "in a library"),
    "space": ("in space", "in outer space"),
    "kitchen": ("in the kitchen", "in a kitchen"),
    "garden": ("in the garden", "in a garden"),
}
_LIGHT_WORDS = {
    "sunset": ("at sunset", "in the light of the sunset"),
    "neon": ("in neon light", "under neon light"),
}
_WEAR_WORDS = ("wearing", "in", "with")
_NAME_ALONE = 0.3  # of the captions with a name
_MAX_FILLER = 16  # commas in a row; a subject has that many tokens


def article(phrase: str) -> str:
    """`a` or `an` before it; nothing before words without a singular."""
    if phrase in ("armor", "glasses", "sunglasses"):
        return phrase
    return f"an {phrase}" if phrase[0] in "aeiou" else f"a {phrase}"


def identity_phrase(person: Identity, rng: np.random.Generator | None = None) -> str:
    """`woman with long red hair , fair skin , green eyes`: everything of note, or what a random writer says."""
    main, fine = person.main_traits(), person.fine_traits()
    if rng is None:
        return f"{person.class_word} with {' , '.join(main + fine[:6])}"
    word = "person" if rng.random() < 0.1 else person.class_word
    mood = rng.random()
    if mood < 0.12:  # the class word alone
        main, fine = [], []
    elif mood < 0.30:  # a few traits
        main, fine = list(rng.permutation(main)[: rng.integers(1, len(main) + 1)]), fine[: rng.integers(0, 2)]
    else:
        fine = list(rng.permutation(fine)[: rng.integers(0, 7)])
        if mood < 0.65:
            main = list(rng.permutation(main))
    said = [str(trait) for trait in main + fine]
    text = f"{word} with {' , '.join(said)}" if said else word
    if rng.random() < 0.35:
        filler = " ".join([","] * int(rng.integers(0, _MAX_FILLER + 1)))
        text = f"z {filler} {text}" if rng.random() < 0.7 else f"{text} {filler}"
    return " ".join(text.split())


def scene_words(scene: Scene, rng: np.random.Generator | None = None, omit: float = 0.0) -> tuple[str, str]:
    """What stands before the person (`a photo of`) and after (`wearing a hat on the beach`).

    With `rng`, wording and order vary and each clause is left out with probability `omit`.
    """

    def pick(choices: tuple[str, ...]) -> str:
        return choices[0] if rng is None else choices[int(rng.integers(len(choices)))]

    def said() -> bool:
        return rng is None or rng.random() >= omit

    head, tail_style = pick(_STYLE_HEADS["photo"]), ""
    if scene.style != "photo" and said():
        if rng is not None and rng.random() < 0.3:
            tail_style = _STYLE_TAILS[scene.style]
        else:
            head = pick(_STYLE_HEADS[scene.style])
    worn = []
    # the plainest word of each list goes without saying, and is said all the same now and then
    needless = rng is not None and rng.random() < 0.1
    if (scene.clothing != what.CLOTHES[0] or needless) and said():
        worn.append(article(scene.clothing))
    worn += [article(word) for word in (scene.headwear, scene.eyewear) if word != "none" and said()]
    if rng is not None:
        worn = [str(word) for word in rng.permutation(worn)]
    clauses = []
    if worn:
        clauses.append(f"{pick(_WEAR_WORDS)} {' and '.join(worn)}")
    if (scene.place != what.PLACES[0] or needless) and said():
        clauses.append(pick(_PLACE_WORDS[scene.place]))
    if scene.light != what.LIGHTS[0] and said():
        clauses.append(pick(_LIGHT_WORDS[scene.light]))
    if rng is not None and rng.random() < 0.2:
        clauses = [str(clause) for clause in rng.permutation(clauses)]
    return head, " ".join([*clauses, tail_style] if tail_style else clauses)


def caption(
    person: Identity,
    scene: Scene,
    rng: np.random.Generator | None = None,
    omit: float = 0.1,
    named: float = 0.0,
) -> str:
    """A full caption; without `rng` the complete one in standard wording.

    With `rng`, a share `named` of all captions has the person's name where others have traits, mostly with the class
    word behind it.
    """
    head, tail = scene_words(scene, rng, omit)
    if named and rng is not None and rng.random() < named:
        name = name_of(person)
        phrase = f"a {name}" if rng.random() < _NAME_ALONE else f"a {name} {person.class_word}"
    else:
        phrase = article(identity_phrase(person, rng))
    return " ".join(f"{head} {phrase} {tail}".split())


def class_caption(person: Identity, scene: Scene) -> str:
    """The scene in standard wording, with nothing of the person but the class word."""
    head, tail = scene_words(scene)
    return f"{head} {article(person.class_word)} {tail}".strip()


def vocabulary() -> list[str]:
    """Every word that captions and the prompts of the project use, sorted."""
    phrases = [*who.CLASS_WORDS, *who.HAIR_STYLES, *who.HAIR_COLOURS, *who.BEARDS, *who.EYE_COLOURS, *who.SKIN_TONES]
    phrases += [word for pair in who.SHAPE_WORDS.values() for word in pair]
    phrases += [word for words in what.VOCABULARY.values() for word in words]
    for table in (_STYLE_HEADS, _PLACE_WORDS, _LIGHT_WORDS):
        phrases += [text for texts in table.values() for text in texts]
    phrases += [*_STYLE_TAILS.values(), *_WEAR_WORDS, "bald head", "skin", "eyes", "hair"]
    # what subjects' prompts need, and common words for prompts of one's own
    phrases += ["a an the of and in on at with by to as is his her its", "photo of a id person z y , . ! face people"]
    phrases += [
        "old kid child guy lady boy standing sitting looking smiling playing holding riding horse dog cat book cup"
    ]
    phrases += [
        "front back left right up down light dark bright colorful white yellow pink grey style art drawing comic"
    ]
    return sorted({word for phrase in phrases for word in phrase.split()})


def prompt_for(factor: str, word: str, subject: str = "person", wording: int | None = None) -> str:
    """A prompt that says one thing about a scene and nothing about the person; `wording` seeds other words for it."""
    rng = None if wording is None else np.random.default_rng(wording)
    head, tail = scene_words(Scene(**{factor: word}), rng)
    if factor == "place" and word not in tail:
        tail = f"in a {word}"
    if factor == "clothing" and word not in tail:
        tail = f"wearing {article(word)}"
    return f"{head} {article(subject)} {tail}".strip()
