"""The grammar of compositions: how many, how often, and both vocabularies."""

from __future__ import annotations

import math
import re
from collections import Counter

import numpy as np
import pytest
from transformers import CLIPTokenizer

from adaface.distill.composition_file import expand
from adaface.distill.compositions import Compositions
from adaface.miniature.world import scene
from adaface.model_path import model_path

MINIATURE = "package://adaface.miniature/compositions.yaml"
DRAWS = 20_000


@pytest.fixture(scope="module")
def own() -> Compositions:
    return Compositions.load()


@pytest.fixture(scope="module")
def miniature() -> Compositions:
    return Compositions.load(MINIATURE)


def phrases(compositions: Compositions, *cores: str) -> list[str]:
    return [
        phrase for core in compositions.core if core.name in cores for pattern in core.patterns for phrase in pattern
    ]


def test_at_least_as_many_words_as_the_original_of_every_kind(own):
    """(patterns, phrases) of its core and numbers of its other words: reference of the data part, 3.6."""
    patterns = {core.name: len(core.patterns) for core in own.core}
    assert patterns["places"] >= 11 and len(phrases(own, "places")) >= 78
    assert patterns["actions"] + patterns["grown_up"] >= 22 and len(phrases(own, "actions")) >= 191
    assert patterns["look"] >= 1 and len(phrases(own, "look")) >= 5
    assert patterns["dress"] >= 3 and len(phrases(own, "dress")) >= 24
    least = {"modifiers": 34, "time": 7, "style": 38, "background": 32, "artists": 9, "light": 11, "company": 220}
    assert [extra.name for extra in own.extras] == list(least)  # in the order that it says them
    for extra in own.extras:
        assert len(set(extra.choices)) == len(extra.choices) >= least[extra.name], extra.name


def test_at_least_as_many_combinations_as_the_original(own):
    def several(words: int, most: int) -> int:
        return 1 + sum(math.perm(words, count) for count in range(1, most + 1))

    original = 298 * several(34, 3) * several(7, 1) * several(38, 2) * several(32, 1) * several(9, 3) * 12 * (1 + 220)
    for person_type in ("person", "woman", "girl"):
        assert own.combinations(person_type) >= original
    assert own.combinations("girl") < own.combinations("woman")


def test_no_phrase_is_there_twice(own, miniature):
    for compositions in (own, miniature):
        every = phrases(compositions, *(core.name for core in compositions.core))
        assert not [phrase for phrase, times in Counter(every).items() if times > 1]


def test_combinations_are_counted_as_they_are_drawn(tmp_path):
    file = tmp_path / "few.yaml"
    file.write_text(
        "core:\n  here: {patterns: ['at (home|work)', outside]}\n"
        "extras:\n  light: {probability: 0.5, choices: [dark, bright], most: 2, between: ' and '}\n"
        "  place: {probability: 0.5, choices: [far away], unless: [here]}\n"
    )
    few = Compositions.load(file)
    rng = np.random.default_rng(0)
    seen = Counter(few.sample(rng) for _ in range(4000))
    assert len(seen) == few.combinations() == 3 * (1 + 2 + 2)
    assert "outside, bright and dark" in seen and not any("far away" in text for text in seen)
    # patterns are equally likely, phrases of one share its part
    assert sum(times for text, times in seen.items() if text.startswith("outside")) / 4000 == pytest.approx(
        0.5, abs=0.03
    )


def test_extras_come_as_often_as_they_should(own):
    rng = np.random.default_rng(1)
    texts = [own.sample(rng, "man") for _ in range(DRAWS)]
    tell = {"style": r", in [^,]* style", "background": " as background", "artists": ", art by "}
    found = {name: np.mean([re.search(pattern, text) is not None for text in texts]) for name, pattern in tell.items()}
    assert found == pytest.approx({"style": 0.25, "background": 0.6, "artists": 0.25}, abs=0.015)
    assert len(set(texts)) > 0.9 * DRAWS
    assert not any("  " in text or text != text.strip() or "{" in text for text in texts)


def test_children_are_not_given_wine(own):
    grown_up = re.compile(r"wine|beer|cocktail|champagne|casino|^driving")
    rng = np.random.default_rng(2)
    assert not any(grown_up.search(own.sample(rng, word)) for word in ("girl", "boy") for _ in range(4000))
    assert any(grown_up.search(own.sample(rng, "woman")) for _ in range(4000))


def test_a_draw_depends_on_its_stream_alone(own):
    one, two = (np.random.default_rng(5) for _ in range(2))
    assert [own.sample(one) for _ in range(20)] == [own.sample(two) for _ in range(20)]


def test_the_miniature_knows_every_word(miniature):
    tokenizer = CLIPTokenizer.from_pretrained(model_path("package://adaface.miniature/weights/sd/tokenizer"))
    texts = [*miniature.phrases(), *miniature.templates.entries, miniature.templates.portrait]
    unknown = {
        word
        for text in texts
        for word in re.findall(r"\w+|,", text.replace("{}", "z"))
        if len(tokenizer(word, add_special_tokens=False).input_ids) != 1
    }
    assert not unknown


def test_the_miniature_says_everything_that_it_can_draw(miniature):
    said = " ".join(miniature.phrases())
    for factor, words in scene.VOCABULARY.items():
        usual = words[0] if factor != "place" else None  # plain clothes are clothes, too; no hat is not said
        for word in words:
            skipped = word == usual and factor != "clothing"
            assert skipped or f"{word}" in said, f"{factor}: {word}"
    rng = np.random.default_rng(0)
    texts = [miniature.sample(rng, "woman") for _ in range(4000)]
    places = (
        "beach",
        "forest",
        "snow",
        "city",
        "desert",
        "office",
        "mountain",
        "library",
        "space ",
        "kitchen",
        "garden",
    )
    assert max(sum(text.replace("spacesuit", "").count(place) for place in places) for text in texts) == 1


def test_patterns():
    lists = {"hats": ["a hat", "a crown"]}
    assert expand("(wearing|with) <hats>", lists) == (
        "wearing a hat", "wearing a crown", "with a hat", "with a crown",
    )  # fmt: skip
    assert expand("in (|a )rain", {}) == ("in rain", "in a rain")
    for wrong in ("in (rain", "a|b", "(a(b|c)|d)", "<hat", " "):
        with pytest.raises(ValueError, match="cannot be read"):
            expand(wrong, lists)


def test_a_wrong_file_is_told_everything(tmp_path):
    file = tmp_path / "wrong.yaml"
    file.write_text(
        "core:\n  a: {patterns: ['on <moons>'], not_for: [girls]}\n  b: {pattern: [x]}\n"
        "extras:\n  c: {choices: [1920], probability: 2}\n  d: {choices: [x], text: ', x', most: 2, unless: [e]}\n"
        "templates: {entries: [a photo]}\nartist: {}\n"
    )
    with pytest.raises(ValueError) as error:
        Compositions.load(file)
    told = str(error.value)
    for part in ("no list <moons>", "not_for names girls", "core.b has pattern", "extras.c must be a list of texts",
                 "extras.c: probability", "extras.d: text", "extras.d: most", "extras.d: unless names e", "a photo",
                 "unknown section 'artist'"):  # fmt: skip
        assert part in told, part
    file.write_text("core: {a: {patterns: [with a y], not_for: [boy]}}\nextras: {b: {choices: [generation z]}}\n")
    with pytest.raises(ValueError, match=r"other words in with a y, , generation z; core has nothing for boy"):
        Compositions.load(file)
    with pytest.raises(FileNotFoundError, match="no file of compositions"):
        Compositions.load(tmp_path / "none.yaml")
    file.write_text("core: [")
    with pytest.raises(ValueError, match="not a YAML file"):
        Compositions.load(file)
