"""Prompts: the sets of the package, files of users, ids, articles, windows."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest
from transformers import CLIPTokenizer

from adaface.encoder.config import VECTORS
from adaface.evaluation.prompt_length import open_tokenizer, too_long
from adaface.evaluation.prompts import MAX_ID, SETS, Prompt, load_prompts
from adaface.miniature.world.identity import CLASS_WORDS
from adaface.miniature.world.scene import VOCABULARY

MINIATURE = "package://adaface.miniature/prompts.yaml"
SINGLE, SHORTFALL, PORTRAITS = (
    f"package://adaface.miniature/{name}.yaml" for name in ("single_prompts", "shortfall_prompts", "portraits")
)
MINIATURE_SD = "package://adaface.miniature/weights/sd"


def write(folder: Path, text: str, name: str = "mine.txt") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


# The sets of the package


@pytest.mark.parametrize(
    ("name", "number"), [("live", 22), ("community", 25), ("grid", 40), (MINIATURE, 40), (SINGLE, 29), (SHORTFALL, 21)]
)
def test_a_set_has_its_size_and_unique_ids(name, number):
    prompts = load_prompts([name])
    assert len(prompts) == len({prompt.id for prompt in prompts}) == number
    for prompt in prompts:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", prompt.id) and len(prompt.id) <= MAX_ID
        assert prompt.text.count("{}") == 1 and prompt.category


def test_the_sets_do_not_repeat_one_another():
    assert len(load_prompts(list(SETS))) == 87


def test_the_grid_has_ten_of_each_of_four_kinds():
    kinds = [prompt.category for prompt in load_prompts(["grid"])]
    assert {kind: kinds.count(kind) for kind in kinds} == {"accessory": 10, "style": 10, "action": 10, "context": 10}


@pytest.mark.parametrize("name", SETS)
def test_a_set_fits_into_the_window_of_clip_with_sixteen_vectors(name, shared):
    tokenizer = CLIPTokenizer.from_pretrained(shared / "models" / "clip_tokenizer")
    assert tokenizer.model_max_length == 77
    prompts = load_prompts([name])
    assert too_long(tokenizer, prompts, CLASS_WORDS) == []
    assert too_long(tokenizer, prompts, (), VECTORS) == []
    # counted in another way: text without the subject, BOS and EOS, and the vectors
    assert max(len(tokenizer(prompt.of("")).input_ids) for prompt in prompts) + VECTORS <= 77


# The miniature


@pytest.mark.parametrize("name", [MINIATURE, SINGLE, SHORTFALL, PORTRAITS])
def test_the_miniature_knows_every_word_of_its_prompts(name):
    tokenizer = open_tokenizer(MINIATURE_SD)
    for prompt in load_prompts([name]):
        for word in [*CLASS_WORDS, "z"]:
            for part in prompt.of(word).split():
                assert len(tokenizer(part, add_special_tokens=False).input_ids) == 1, (prompt.id, part)
    assert too_long(tokenizer, load_prompts([name]), CLASS_WORDS) == []
    assert too_long(tokenizer, load_prompts([name]), (), VECTORS) == []


@pytest.mark.parametrize(
    ("names", "categories"),
    [([MINIATURE], {*VOCABULARY, "several"}), ([SINGLE, SHORTFALL], {*VOCABULARY, "several", "portrait"})],
)
def test_the_miniature_expects_what_its_prompts_say(names, categories):
    prompts = load_prompts(names)
    seen = {factor: set() for factor in VOCABULARY}
    for prompt in prompts:
        assert prompt.expects or prompt.category == "portrait"
        for factor, word in prompt.expects.items():
            assert word in VOCABULARY[factor] and word in prompt.text, prompt
            seen[factor].add(word)
        one = prompt.category in VOCABULARY
        assert not one or list(prompt.expects) == [prompt.category]
        # nothing else of the scene is said
        said = {word for words in VOCABULARY.values() for word in words if re.search(rf"\b{word}\b", prompt.text)}
        assert said - {"photo", "plain"} <= set(prompt.expects.values()) | {"space"}
    for factor, words in VOCABULARY.items():
        assert seen[factor] == set(words[1:]), factor  # the first word of each is what goes without saying
    assert {prompt.category for prompt in prompts} == categories


# Articles


@pytest.mark.parametrize(
    ("text", "word", "said"),
    [
        ("a photo of a {} on the beach", "young woman", "a photo of a young woman on the beach"),
        ("a photo of a {} on the beach", "elderly man", "a photo of an elderly man on the beach"),
        ("An {} in space", "man", "A man in space"),
        ("A {} in space", "old man", "An old man in space"),
        ("a {} in space", "z", "a z in space"),
        ("an {} in space", "European man", "a European man in space"),
        ("a {} in space", "honest man", "an honest man in space"),
        ("a {} in space", "university student", "a university student in space"),
        ("a laughing {} in space", "actor", "a laughing actor in space"),
        ("a mafia {} in space", "actor", "a mafia actor in space"),
        ("{} in space", "old man", "old man in space"),
    ],
)
def test_the_article_goes_with_the_word(text, word, said):
    assert Prompt("id", "x", text).of(word) == said


def test_placement_stands_around_the_subject(tmp_path):
    file = write(tmp_path, "an {} in space\n")
    (prompt,) = load_prompts([file], placement="face portrait of {}")
    assert prompt.of("z") == "a face portrait of z in space"
    assert prompt.id == load_prompts([file])[0].id


# Text files


def test_lines_with_and_without_a_subject(tmp_path):
    lines = [
        "# a comment",
        "",
        "a {} on Mars",
        "a z   riding a horse",
        "oil painting of an old woman with a dog",
        "in a boat on a lake",
    ]
    prompts = load_prompts([write(tmp_path, "\ufeff" + "\r\n".join(lines))])
    assert [prompt.text for prompt in prompts] == [
        "a {} on Mars",
        "a {} riding a horse",
        "oil painting of a {} with a dog",
        "a {} in a boat on a lake",
    ]
    assert {prompt.category for prompt in prompts} == {"mine"}


def test_ids_of_texts_that_a_slug_does_not_tell_apart(tmp_path):
    texts = [
        "a {} in Paris!",
        "a {} in Paris?",
        "{} 在雪中",
        "{} 在海边",
        "a {} on " + "very " * 40 + "high stilts",
        "a {} in Zürich",
    ]
    prompts = load_prompts([write(tmp_path, "\n".join(texts))])
    ids = [prompt.id for prompt in prompts]
    assert len(set(ids)) == 6 and max(map(len, ids)) <= MAX_ID and ids[5] == "in-zurich"
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in ids)
    turned = load_prompts([write(tmp_path, "\n".join(texts[::-1]))])
    assert {prompt.text: prompt.id for prompt in turned} == {prompt.text: prompt.id for prompt in prompts}


def test_a_yaml_of_ones_own(tmp_path):
    text = "hats:\n  - a {} with a hat\n  - {id: crown, text: 'a {} with a crown', expects: {headwear: crown}}\n"
    hat, crown = load_prompts([write(tmp_path, text, "mine.yaml")])
    assert (hat.id, hat.category, hat.expects) == ("with-a-hat", "hats", {})
    assert (crown.id, crown.expects) == ("crown", {"headwear": "crown"})
    (plain,) = load_prompts([write(tmp_path, "- a {} with a hat\n", "list.yml")])
    assert plain.category == "list"


def test_a_prompt_goes_through_pickle_and_sets():
    prompt = load_prompts([MINIATURE])[0]
    assert pickle.loads(pickle.dumps(prompt)) == prompt
    assert len({prompt, prompt}) == 1


# Limits


def test_a_limit_takes_evenly_from_the_categories():
    few = load_prompts([MINIATURE], limit=9)
    every = load_prompts([MINIATURE])
    assert {prompt.category for prompt in few} == {prompt.category for prompt in every} and len(few) == 9
    assert [prompt for prompt in every if prompt in few] == few
    assert load_prompts([MINIATURE], limit=1000) == every


# What is refused


def test_all_problems_of_all_files_are_told_at_once(tmp_path):
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe a")
    (tmp_path / "null.txt").write_bytes(b"a\0b")
    items = ["a cat", "{text: 'a {} x', expects: [beach]}", "{txt: y}", "{text: 'a {} q', id: 'No Slug', c: 1}"]
    yaml = "a:\n" + "".join(f"  - {item}\n" for item in items) + "b: word\n"
    sets = [
        "lvie",
        str(tmp_path),
        str(tmp_path / "bytes.txt"),
        str(tmp_path / "null.txt"),
        write(tmp_path, "# nothing\n", "empty.txt"),
        write(tmp_path, "{} and {}\n{}\n", "two.txt"),
        write(tmp_path, yaml, "wrong.yaml"),
        write(tmp_path, "a: [\n", "broken.yaml"),
        write(tmp_path, "just words\n", "words.yaml"),
        "package://no.such.package/prompts.yaml",
    ]
    with pytest.raises(ValueError) as raised:
        load_prompts(sets)
    found = str(raised.value).splitlines()
    for sentence in (
        "prompts lvie: there is no such file; the sets that come with the package are live, community, grid",
        f"prompts {tmp_path}: cannot be read as a text file",
        "bytes.txt: cannot be read as a text file",
        "null.txt: not a text file",
        "empty.txt: there is no prompt in this file",
        "two.txt, line 1: must have the subject once, as {}, not 2 times",
        "two.txt, line 2: says nothing about the subject",
        "wrong.yaml, a 1: must have the subject once, as {}, not 0 times",
        "wrong.yaml, a 2: `expects` must be a mapping of words",
        "wrong.yaml, a 3: must be a text, or a mapping with `text`",
        "wrong.yaml, a 4: unknown key `c`",
        "wrong.yaml, a 4: the id 'No Slug' must be",
        "wrong.yaml: `b` must be a category with a list of prompts",
        "broken.yaml: not valid YAML",
        "words.yaml: expected categories",
        "there is no Python package 'no.such.package'",
    ):
        assert sum(sentence in line for line in found) == 1, sentence
    assert len(found) == 16


def test_duplicates_are_named_with_both_places(tmp_path):
    file = write(tmp_path, "a {} in the snow\na  man in the snow\nA z in the Snow\na {} in the snow .\n")
    own = write(tmp_path, "a:\n  - {id: x, text: 'a {} 1'}\n  - {id: x, text: 'a {} 2'}\n", "ids.yaml")
    with pytest.raises(ValueError) as raised:
        load_prompts([file, own])
    assert str(raised.value).splitlines() == [
        f"prompts {file}, line 2: the same prompt as {file}, line 1: 'a {{}} in the snow'",
        f"prompts {file}, line 3: the same prompt as {file}, line 1: 'A {{}} in the Snow'",
        f"prompts {file}, line 4: the same prompt as {file}, line 1: 'a {{}} in the snow .'",
        f"prompts {own}, a 2: the same id as {own}, a 1: x",
    ]


def test_prompts_that_are_too_long_are_counted_with_vectors_and_class_word():
    tokenizer = open_tokenizer(MINIATURE_SD)
    fits = Prompt("fits", "x", "a photo of {} " + "snow " * 55)  # 3 + 55 + 16 = 74 of 75
    long = Prompt("long", "x", "a photo of {} " + "snow " * 58)  # 77 with vectors, 62 with a word
    endless = Prompt("endless", "x", "a photo of {} " + "snow " * 72)
    weighted = Prompt("weighted", "x", "a photo of {} " + "(snow:1.2) " * 56)  # brackets are no tokens
    prompts = [fits, long, endless, weighted]
    (one,) = too_long(tokenizer, prompts, ["woman", "young woman"])
    assert one.startswith(
        "prompt endless is 2 tokens too long with 'young woman': 77 where the window has room for 75"
    )
    found = too_long(tokenizer, prompts, (), VECTORS)
    assert [sentence.split()[1] for sentence in found] == ["long", "endless"]
    assert "2 tokens too long with the 16 vectors of a subject: 77 where" in found[0]
