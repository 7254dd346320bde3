"""Lines that people write: where the subject stands in them, or that nobody can tell."""

from __future__ import annotations

import pytest

from adaface.evaluation.prompt_lines import with_subject
from adaface.evaluation.prompts import Prompt, load_prompts


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("a {} on Mars", "a {} on Mars"),
        ("a z riding a horse", "a {} riding a horse"),
        ("a z and a man", "a {} and a man"),  # z is the subject, whoever else is there
        ("a man in the snow", "a {} in the snow"),
        ("A woman, oil on canvas", "A {}, oil on canvas"),
        ("oil painting of a young woman", "oil painting of a {}"),
        ("a lady with a dog", "a {} with a dog"),
        ("a guy with a manga", "a {} with a manga"),
        ("the child at the window", "the {} at the window"),
        ("an old man in a hat", "an {} in a hat"),
        ("portrait of an elderly woman in the rain", "portrait of an {} in the rain"),
        ("woman riding a horse", "a {} riding a horse"),
        ("Young man dressed as Iron Man", "a {} dressed as Iron Man"),
        ("dressed as Iron Man", "a {} dressed as Iron Man"),
        ("holding a poster of Iron Man", "a {} holding a poster of Iron Man"),
        ("riding a horse", "a {} riding a horse"),
        ("Surfing in a suit", "a {} surfing in a suit"),
        ("in a boat on a lake", "a {} in a boat on a lake"),
        ("on a man-made island", "a {} on a man-made island"),
        ("beside a policewoman", "a {} beside a policewoman"),
    ],
)
def test_what_is_plain(line, text):
    assert with_subject(line) == text


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a man and a woman dancing", "it says man and woman"),
        ("oil painting of a Young Woman with a man", "it says man and Young Woman"),
        ("a snow man in the garden", "it is not clear whether 'man' is the subject"),
        ("an angry man in a hat", "it is not clear whether 'man' is the subject"),
        ("the man's best friend", "it is not clear whether 'man' is the subject"),
        ("dressed as the Invisible Man", "it is not clear whether 'Man' is the subject"),
        ("portrait of woman", "it is not clear whether 'woman' is the subject"),
        ("mother and child", "it is not clear whether 'child' is the subject"),
        ("a zebra and a policewoman", "it has no subject"),
        ("painting of a castle", "it has no subject"),
        ("Iron Man in space", "it has no subject"),
        ("dramatic light, 35 mm", "it has no subject"),
    ],
)
def test_what_is_in_doubt_is_refused_with_the_remedy(line, reason):
    with pytest.raises(ValueError, match=r"; write \{\} where the subject stands$") as raised:
        with_subject(line)
    assert str(raised.value).startswith(reason)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("an old man in a hat", "a young woman in a hat"),
        ("a man in a hat", "a young woman in a hat"),
        ("riding a horse", "a young woman riding a horse"),
        ("dressed as Iron Man", "a young woman dressed as Iron Man"),
    ],
)
def test_what_a_young_woman_is_asked_for(line, said):
    assert Prompt("id", "x", with_subject(line)).of("young woman") == said


def test_all_lines_in_doubt_are_named_at_once(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("# mine\na man on Mars\na man and a dog and a boy\ndramatic light\n", encoding="utf-8")
    with pytest.raises(ValueError) as raised:
        load_prompts([str(file)])
    assert str(raised.value).splitlines() == [
        f"prompts {file}, line 3: it says man and boy; write {{}} where the subject stands: 'a man and a dog and a boy'",
        f"prompts {file}, line 4: it has no subject; write {{}} where the subject stands: 'dramatic light'",
    ]
