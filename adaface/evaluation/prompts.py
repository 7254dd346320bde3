"""What the pictures are asked to show: prompts by category, from the sets that come with the package or from files.

A set is a YAML file of categories with prompts:

    clothing:
      - a {} in a long raincoat
      - {text: "a photo of a {} wearing a crown", expects: {headwear: crown}}

or a text file of one prompt a line. Lines of a text file may have the subject as `{}`, as `z`, as a class word, or not
at all, see `prompt_lines`. Empty lines and lines that start with # are skipped.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from adaface.evaluation.prompt_lines import TOKEN, with_subject
from adaface.model_path import model_path

SETS = ("live", "community", "grid")  # prompt_sets/*.yaml
MAX_ID = 80  # characters

_FOLDER = Path(__file__).parent / "prompt_sets"
_YAML = (".yaml", ".yml")
_ARTICLE = re.compile(r"\b([Aa])n?(\s+)\{\}")
# Words that are said with another sound than their first letter's.
_SAID_WITH_VOWEL = re.compile(r"(?:hour|honest|heir|honou?r)", re.IGNORECASE)
_SAID_WITH_CONSONANT = re.compile(r"(?:uni(?!n|m)|eu|use|one\b|once\b)", re.IGNORECASE)


@dataclass(frozen=True)
class Prompt:
    """One thing that is asked for.

    Attributes:
        id: a slug, unique in a run, of at most 80 characters that any file system takes.
        category: what it tries, e.g. "clothing"; results are summed up by it.
        text: with `{}` once, in the place of the subject.
        expects: {factor: word} that a scene classifier should see in the picture, where that is known.
    """

    id: str
    category: str
    text: str
    expects: Mapping[str, str] = field(default_factory=dict, hash=False)

    def of(self, word: str) -> str:
        """The prompt about `word`: a class word, or the token of a subject. Its `a` or `an` goes with the word."""
        text = _ARTICLE.sub(lambda match: f"{match[1]}{'n' * _takes_an(word)}{match[2]}{{}}", self.text)
        return text.replace("{}", word)


def load_prompts(sets: Sequence[str], limit: int | None = None, placement: str = "{}") -> list[Prompt]:
    """As `read_prompts`. Raises ValueError with everything that is wrong."""
    prompts, problems = read_prompts(sets, limit, placement)
    if problems:
        raise ValueError("\n".join(problems))
    return prompts


def read_prompts(
    sets: Sequence[str], limit: int | None = None, placement: str = "{}"
) -> tuple[list[Prompt], list[str]]:
    """The prompts of all sets, in order, with unique ids, and what is wrong.

    Args:
        sets: names of SETS, or paths (also `package://PACKAGE/PATH`) of .yaml files and of text files.
        limit: at most so many in all, taken in turn from the categories; their order stays.
        placement: what stands for `{}` in every prompt, itself with `{}` once, e.g. "face portrait of {}".

    Returns:
        the prompts that can be used, and a sentence for each problem: sets that are not there or cannot be read, prompts
        that cannot be used, and prompts that are there twice.
    """
    found: list[tuple[str, Prompt]] = []
    problems: list[str] = []
    for name in sets:
        found += _read_set(name, problems)
    problems += _duplicates(found)
    if not found and not problems:
        problems.append("there is no prompt; name a set in prompts.sets")
    prompts = _with_ids([prompt for _, prompt in found])
    if limit is not None:
        prompts = _evenly(prompts, limit)
    return [replace(prompt, text=prompt.of(placement)) for prompt in prompts], problems


# Reading


def _read_set(name: str, problems: list[str]) -> list[tuple[str, Prompt]]:
    """(where it is written, prompt with the id it asks for or "") of one set; what is wrong goes to `problems`."""
    if name in SETS:
        path = _FOLDER / f"{name}.yaml"
    else:
        try:
            path = model_path(name)
        except ValueError as error:
            problems.append(str(error))
            return []
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        known = f"; the sets that come with the package are {', '.join(SETS)}" if Path(name).name == name else ""
        problems.append(f"prompts {name}: there is no such file{known}")
        return []
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"prompts {name}: cannot be read as a text file: {error}")
        return []
    if "\0" in text:
        problems.append(f"prompts {name}: not a text file")
        return []
    before = len(problems)
    read = _of_yaml if path.suffix.lower() in _YAML else _of_text
    found = list(read(name, path.stem, text, problems))
    if not found and len(problems) == before:
        problems.append(f"prompts {name}: there is no prompt in this file")
    return found


def _of_text(name: str, stem: str, text: str, problems: list[str]) -> Iterator[tuple[str, Prompt]]:
    for number, line in enumerate(text.splitlines(), start=1):
        line = " ".join(line.split())
        if not line or line.startswith("#"):
            continue
        where = f"prompts {name}, line {number}"
        try:
            text = with_subject(line)
        except ValueError as error:
            problems.append(f"{where}: {error}: {line[:60]!r}")
            continue
        yield from _usable(where, {"text": text}, stem, problems)


def _of_yaml(name: str, stem: str, text: str, problems: list[str]) -> Iterator[tuple[str, Prompt]]:
    import yaml

    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problems.append(f"prompts {name}: not valid YAML: {' '.join(str(error).split())}")
        return
    if isinstance(values, list):
        values = {stem: values}
    if not isinstance(values, dict):
        if values is not None:
            problems.append(f"prompts {name}: expected categories with lists of prompts")
        return
    for category, items in values.items():
        if not isinstance(category, str) or not isinstance(items, list):
            problems.append(f"prompts {name}: `{category}` must be a category with a list of prompts")
            continue
        for number, item in enumerate(items, start=1):
            entry = {"text": item} if isinstance(item, str) else item
            yield from _usable(f"prompts {name}, {category} {number}", entry, category, problems)


def _usable(where: str, entry: Any, category: str, problems: list[str]) -> Iterator[tuple[str, Prompt]]:
    """The prompt of an entry {"text", "id", "expects"}, if nothing is wrong with it."""
    if not isinstance(entry, dict) or not isinstance(entry.get("text"), str):
        problems.append(f"{where}: must be a text, or a mapping with `text`; put it in quotes")
        return
    wrong = [f"unknown key `{key}`" for key in entry if key not in ("text", "id", "expects")]
    text = " ".join(entry["text"].split())
    if text.count("{}") != 1:
        wrong.append(f"must have the subject once, as {{}}, not {text.count('{}')} times: {text[:60]!r}")
    if not text.replace("{}", "").strip(" .,"):
        wrong.append("says nothing about the subject")
    expects = entry.get("expects", {})
    if not isinstance(expects, dict) or not all(isinstance(word, str) for pair in expects.items() for word in pair):
        wrong.append("`expects` must be a mapping of words, e.g. {place: beach}")
    name = entry.get("id", "")
    if not isinstance(name, str) or name != _slug(name) or len(name) > MAX_ID:
        wrong.append(f"the id {name!r} must be lower-case letters, digits and hyphens, at most {MAX_ID}")
    problems += [f"{where}: {sentence}" for sentence in wrong]
    if not wrong:
        yield where, Prompt(name, category, text, expects)


# The whole list


def _duplicates(found: Sequence[tuple[str, Prompt]]) -> Iterator[str]:
    texts: dict[str, str] = {}
    ids: dict[str, str] = {}
    for where, prompt in found:
        # the text encoder does not tell upper from lower case, and a full stop at the end asks for nothing else
        first = texts.setdefault(" ".join(prompt.of(TOKEN).casefold().split()).rstrip(" ."), where)
        if first != where:
            yield f"{where}: the same prompt as {first.removeprefix('prompts ')}: {prompt.text!r}"
        elif prompt.id and (first := ids.setdefault(prompt.id, where)) != where:
            yield f"{where}: the same id as {first.removeprefix('prompts ')}: {prompt.id}"


def _with_ids(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Each with the id it asks for, else the slug of its text; where slugs are equal or cut, with a hash of the text."""
    slugs = [prompt.id or _slug(prompt.text) for prompt in prompts]
    counts = Counter(slugs)
    named = []
    for prompt, slug in zip(prompts, slugs, strict=True):
        if not prompt.id and (not slug or counts[slug] > 1 or len(slug) > MAX_ID):
            digest = hashlib.sha256(prompt.text.encode()).hexdigest()[:8]
            slug = f"{slug[: MAX_ID - 9].rstrip('-')}-{digest}".lstrip("-")
        named.append(replace(prompt, id=slug))
    return named


def _slug(text: str) -> str:
    """`A photo of a {} in Paris!` -> photo-of-in-paris: ASCII, without the subject and its article."""
    text = re.sub(r"\b(?:an?|the)\s+\{\}|\{\}|^\W*(?:an?|the)\s", " ", text, flags=re.IGNORECASE)
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower().replace("'", "")
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def _evenly(prompts: Sequence[Prompt], limit: int) -> list[Prompt]:
    """The first of each category, then the second of each, ... until there are `limit`; in their old order."""
    nth: Counter[str] = Counter()
    turns = []
    for index, prompt in enumerate(prompts):
        turns.append((nth[prompt.category], index))
        nth[prompt.category] += 1
    chosen = sorted(index for _, index in sorted(turns)[:limit])
    return [prompts[index] for index in chosen]


def _takes_an(word: str) -> bool:
    if _SAID_WITH_VOWEL.match(word):
        return True
    return word[:1].lower() in "aeiou" and not _SAID_WITH_CONSONANT.match(word) and bool(word)
