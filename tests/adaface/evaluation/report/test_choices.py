"""Which pictures are shown: fixed, spread over categories, honest about best and worst."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from adaface.evaluation.report import ReportData
from adaface.evaluation.report.choices import (
    CASE_PICTURES,
    GRID_PICTURES,
    case_limit,
    cases,
    file_of,
    grid_choice,
    undetected,
    undetected_choice,
)


def test_file_is_that_of_the_plan(run: ReportData) -> None:
    assert file_of(run, 0) == "images/class-word/person0/prompt-0-0.png"


def test_a_grid_has_all_methods_at_one_prompt_and_seed(run: ReportData) -> None:
    grids = grid_choice(run)
    assert len(grids) == 4
    for subject, rows in grids:
        assert len(rows) == 6
        assert len({row.prompt_id for row in rows}) == 6
        for row in rows:
            assert list(row.rows) == ["class-word", "teacher", "adaface"]
            for method, at in row.rows.items():
                assert run.scores["method"][at] == method
                assert (run.scores["subject"][at], run.scores["prompt_id"][at]) == (subject, row.prompt_id)
                assert run.scores["k"][at] == row.k


def test_a_grid_shows_all_categories(run: ReportData) -> None:
    category = {prompt.id: prompt.category for prompt in run.prompts}
    for _, rows in grid_choice(replace(run, grid_prompts=3)):
        assert {category[row.prompt_id] for row in rows} == {"place", "style", "clothing"}


def test_grids_do_not_look_at_scores(run: ReportData) -> None:
    other = replace(
        run, scores=run.scores | {"gap_pack": -run.values("gap_pack"), "clip_text": -run.values("clip_text")}
    )
    assert grid_choice(other) == grid_choice(run)


def test_grids_stay_below_the_limit(make: Callable[..., ReportData]) -> None:
    for subjects, methods in ((60, 3), (120, 2), (3, 40)):
        names = tuple(f"m{i}" for i in range(methods))
        data = make(
            subjects=subjects,
            prompts=12,
            seeds=1,
            methods=names,
            runs=0,
            recognisers=(),
            grid_subjects=200,
            grid_prompts=100,
        )
        grids = grid_choice(data)
        shown = sum(len(rows) for _, rows in grids) * (methods + 1)
        assert GRID_PICTURES // 2 < shown <= GRID_PICTURES


def test_a_run_that_was_cut_short_shows_the_seed_that_most_methods_have(run: ReportData) -> None:
    keep = ~((run.scores["method"] == "adaface") & (run.scores["k"] == 0))
    cut = replace(run, scores={name: np.asarray(values)[keep] for name, values in run.scores.items()})
    for _, rows in grid_choice(cut):
        assert {row.k for row in rows} == {1}
        assert all(len(row.rows) == 3 for row in rows)


def known_cases(run: ReportData) -> ReportData:
    """adaface: row 0 is best in both, row 1 has the text alone, row 2 the person alone; baseline equal everywhere."""
    rows = np.flatnonzero(run.scores["method"] == "adaface")
    gap, text = run.values("gap_pack").copy(), np.full(len(run), 0.2)
    gap[rows], text[rows] = np.linspace(0.3, 0.4, len(rows)), np.linspace(0.25, 0.2, len(rows))
    gap[rows[0]], text[rows[0]] = 0.9, 0.9
    gap[rows[10]], text[rows[10]] = -0.5, 0.8
    gap[rows[20]], text[rows[20]] = 0.8, 0.0
    return replace(run, scores=run.scores | {"gap_pack": gap, "clip_text": text, "detected": np.ones(len(run))})


def test_best_is_good_at_both_and_worst_bad_at_one(run: ReportData) -> None:
    data = known_cases(run)
    rows = np.flatnonzero(run.scores["method"] == "adaface")
    best, worst = cases(data, "adaface", 2)
    assert best[0].row == rows[0]
    assert {case.row for case in worst} == {rows[10], rows[20]}
    places = {case.row: case for case in worst}
    assert places[int(rows[10])].identity == 0 and places[int(rows[10])].text > 0.9
    assert places[int(rows[20])].text == 0 and places[int(rows[20])].identity > 0.9


def test_no_picture_is_among_best_and_worst(make: Callable[..., ReportData]) -> None:
    best, worst = cases(make(subjects=2, prompts=2, runs=0), "adaface", 8)
    assert len(worst) == 4
    assert not best or not {case.row for case in best} & {case.row for case in worst}


def test_one_picture_of_each_person_and_prompt(run: ReportData) -> None:
    for chosen in cases(run, "adaface", 20):
        about = [(run.scores["subject"][case.row], run.scores["prompt_id"][case.row]) for case in chosen]
        assert len(set(about)) == len(about) == 20


def test_pictures_without_a_face_are_the_worst_in_identity(run: ReportData) -> None:
    _, worst = cases(run, "adaface", 5)
    lost = set(undetected(run).tolist())
    assert lost & {case.row for case in worst}


def test_text_is_compared_with_the_baseline(run: ReportData) -> None:
    """A prompt that scores low whoever draws it makes no worst case."""
    hard = run.scores["prompt_id"] == "prompt-1"
    scores = run.scores | {"clip_text": np.where(hard, run.values("clip_text") - 0.5, run.values("clip_text"))}
    assert cases(replace(run, scores=scores), "adaface", 8) == cases(run, "adaface", 8)


def test_cases_are_limited(run: ReportData) -> None:
    assert case_limit(run, ["adaface"]) == 8
    many = [f"m{i}" for i in range(12)]
    assert 0 < case_limit(replace(run, cases=50), many) * 4 * len(many) <= CASE_PICTURES


def test_nothing_to_order_by(make: Callable[..., ReportData]) -> None:
    data = make(recognisers=(), without=("clip_text", "composition"), runs=0)
    assert cases(data, "adaface", 8) == ([], [])


def test_undetected_are_taken_from_all_methods(run: ReportData) -> None:
    chosen = undetected_choice(run)
    assert len(chosen) == len(set(chosen)) == 24
    assert set(chosen) <= set(undetected(run).tolist())
    counts = np.unique(run.scores["method"][chosen], return_counts=True)
    assert dict(zip(*counts, strict=True)) == {"adaface": 12, "class-word": 12}
