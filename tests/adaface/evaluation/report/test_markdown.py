"""The same results as Markdown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from adaface.evaluation.reference_faces import ReferenceFaces
from adaface.evaluation.report import ReportData, markdown, model_card_section
from adaface.evaluation.report.card import judged, with_section
from adaface.evaluation.report.markdown import plain


def table_of(text: str) -> list[list[str]]:
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_table_has_the_numbers_of_the_summary(run: ReportData) -> None:
    rows = table_of(markdown(run))
    assert rows[0] == ["", "class-word", "teacher", "adaface"]
    assert {len(row) for row in rows} == {4}
    cells = {row[0]: row[1:] for row in rows[2:]}
    cell = run.summary["overall"]["adaface"]["clip_text"]
    assert cells["Text alignment ↑"][2] == f"{cell['mean']:.3f} ({cell['low']:.3f}–{cell['high']:.3f})"
    assert cells["Text alignment ↑"][0].startswith("**")  # the best of the row
    assert cells["Identity kept, pack ↑"][:2] == ["0%", "100%"]
    assert cells["Base undisturbed ↑"][0] == "–"


def test_summary_says_what_happened(run: ReportData) -> None:
    text = markdown(run)
    assert text.startswith("# Night run\n")
    assert "Finished 2026-11-23 02:10 UTC. 432 pictures by 3 methods, of 9 subjects and 8 prompts." in text
    assert "**adaface** keeps" in text
    assert "- Fine: adaface, Identity gap, pack:" in text


def test_model_card_compares_with_teacher_and_baseline(run: ReportData) -> None:
    text = model_card_section(run, "adaface")
    assert text.startswith("## Evaluation\n")
    assert table_of(text)[0] == ["", "this model", "class word alone", "teacher"]
    assert "144 pictures of 9 subjects, 8 prompts." in text
    assert "- sampler: DDIM, 50 steps" in text
    assert "Two real photos of one person have a face similarity of 0.710 by pack." in text
    assert "No face was found in" in text
    assert f"`sha256` {'ab' * 32}" in text
    assert "(lower is better)" in text
    assert "person0" not in text  # people are counted, not named


def test_model_card_says_by_which_models_and_versions(make: Callable[..., ReportData]) -> None:
    models = {"base": "b" * 64, "measures: clip": "openai/clip", "adaface: w": "1" * 64, "other: w": "2" * 64}
    provenance = {"models": models, "versions": {"torch": "2.13"}, "protocol hash": "feed", "configuration": "a: 1\n"}
    dog = ReferenceFaces(10, 9, 0.638, 0.65, 0.0)
    run = make(methods=("class-word", "adaface", "other"), provenance=provenance)
    run = replace(run, subjects=[replace(one, faces=dog) for one in run.subjects])
    text = model_card_section(run, "adaface")
    assert f"- base: {'b' * 64}\n- measures: clip: openai/clip\n- adaface: w: {'1' * 64}\n\n" in text
    assert "2" * 64 not in text  # of a method that the section does not speak of
    assert "Versions: torch 2.13." in text and "Hashes: protocol `feed`." in text and "a: 1" not in text
    assert "9 subjects may be no person" in text and "person0" not in text


def test_a_section_takes_the_place_of_the_older_one(run: ReportData) -> None:
    section = model_card_section(run, "adaface")
    assert judged(section) == ["ab" * 32]
    card = "# An encoder\n\nText.\n\n## Before you use it\n\nAsk.\n"
    once = with_section(card, section)
    assert once == f"{card}\n{section}"
    assert with_section(once, section) == once
    older = "# An encoder\n\n## Evaluation\n\nOld numbers.\n\n### More\n\n## Evaluation of others\n\nStays.\n"
    newer = with_section(older, section)
    assert newer == f"# An encoder\n\n{section}\n## Evaluation of others\n\nStays.\n"
    assert with_section("", section) == section
    with pytest.raises(ValueError, match="it does not begin with '## Evaluation'"):
        with_section(card, "# Report\n")


def test_model_card_of_a_method_alone(make: Callable[..., ReportData]) -> None:
    text = model_card_section(make(methods=("adaface",), runs=0), "adaface")
    assert table_of(text)[0] == ["", "this model"]
    assert "There is no class-word method" in text


def test_model_card_of_an_unknown_method(run: ReportData) -> None:
    with pytest.raises(ValueError, match="no method 'nobody'; it has class-word, teacher, adaface"):
        model_card_section(run, "nobody")


def test_names_cannot_break_out(make: Callable[..., ReportData]) -> None:
    nasty = "a|b\n# <img src=x> [link](http://x) `code` *x*"
    data = make(
        methods=("class-word", "teacher", nasty), title=nasty, warnings=[nasty], protocol={nasty: nasty}, runs=2
    )
    for text in (markdown(data), model_card_section(data, nasty)):
        assert "<img" not in text
        assert "[link](" not in text
        assert {len(row) for row in table_of(text.replace("\\|", ""))} == {4}
        assert sum(line.startswith("# ") for line in text.splitlines()) <= 1
    assert plain("s3://key:secret@bucket/x") == "s3://\\*\\*\\*@bucket/x"


def test_nothing_measured(make: Callable[..., ReportData]) -> None:
    data = make(subjects=0, runs=0)
    assert "No picture was scored" in markdown(data)
    assert model_card_section(data, "adaface").rstrip().endswith("Nothing was measured.")


def test_equal_data_give_equal_texts(make: Callable[..., ReportData], run: ReportData) -> None:
    assert markdown(make()) == markdown(run)
    assert model_card_section(make(), "adaface") == model_card_section(run, "adaface")
