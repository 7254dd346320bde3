"""Where the subject stands in a line that somebody wrote for people to read: `an old man in a hat`.

A prompt that was understood wrongly is drawn thousands of times before anybody reads it. So only what is plain is taken,
and whatever could be meant otherwise is refused, with the remedy of writing `{}`.
"""

from __future__ import annotations

import re

TOKEN = "z"  # the seed's word for the subject
NOUNS = ("woman", "man", "lady", "guy", "girl", "boy", "child", "person")
# They go with the noun: how old somebody looks is the subject's own affair, and its class word says it.
AGES = ("young", "old", "elderly", "middle-aged", "little")
REMEDY = "write {} where the subject stands"

_SUBJECT = re.compile(rf"(?<!\w){TOKEN}(?!\w)")
_PERSON = re.compile(rf"(?:(?<![\w-])(?:{'|'.join(AGES)})\s+)?(?<![\w-])(?:{'|'.join(NOUNS)})(?![\w-])", re.IGNORECASE)
_ARTICLE = re.compile(r"(?:^|(?<=[\s(,]))(?:an?|the)\s+$", re.IGNORECASE)
# An article with capitalised words behind it: `the Invisible`, which may be a name or a heading.
_HEADING = re.compile(r"(?:^|(?<=[\s(,]))(?i:an?|the)\s+(?:[A-Z][\w'-]*\s+)*$")
_OPENER = re.compile(
    "about|above|across|after|against|along|alongside|amid|among|around|as|at|atop|before|behind|below|beneath|beside|"
    "between|beyond|by|down|during|from|in|inside|into|near|of|off|on|onto|outside|over|past|through|to|toward|towards|"
    "under|underneath|underwater|up|upon|while|with|within|without|.{3,}(?:ing|ed)"
)
# They end like `riding` and `dressed`, and are things.
_THING = re.compile(
    "building|clothing|drawing|engraving|etching|evening|lightning|morning|painting|rendering|spring|string|thing|wedding"
)
_APOSTROPHES = ("'", "\N{RIGHT SINGLE QUOTATION MARK}")


def with_subject(line: str) -> str:
    """The line with `{}`, and an article before it: for `z`, else for a class word, else in front.

    A class word is a noun of NOUNS in small letters with its age, behind an article or at the very beginning; a capital
    is part of a name, as in Iron Man. In front it comes before what can only be said of somebody: a line that begins
    with a preposition or a participle.

    Raises ValueError with what is not clear about any other line.
    """
    if "{}" in line:
        return line
    if _SUBJECT.search(line):
        return _SUBJECT.sub("{}", line)
    clear, doubtful = [], []
    for found in _PERSON.finditer(line):
        before, after = line[: found.start()], line[found.end() :]
        begins = not before
        word = found[0][:1].lower() + found[0][1:] if begins else found[0]
        behind_article = begins or _ARTICLE.search(before)
        if word == word.lower() and behind_article and not after.startswith(_APOSTROPHES):
            clear.append(found)
        elif word == word.lower() or _HEADING.search(before):
            doubtful.append(found)
    if len(clear) + len(doubtful) > 1:
        raise ValueError(f"it says {' and '.join(found[0] for found in (*clear, *doubtful))}; {REMEDY}")
    if doubtful:
        raise ValueError(f"it is not clear whether {doubtful[0][0]!r} is the subject; {REMEDY}")
    if clear:
        start, end = clear[0].span()
        return f"{line[:start]}{'' if start else 'a '}{{}}{line[end:]}"
    if not _is_said_of_somebody(line):
        raise ValueError(f"it has no subject; {REMEDY}")
    return f"a {{}} {line[0].lower()}{line[1:]}"


def _is_said_of_somebody(line: str) -> bool:
    first = re.split(r"[\s,.;:]", line, maxsplit=1)[0].lower()
    return bool(_OPENER.fullmatch(first)) and not _THING.fullmatch(first)
