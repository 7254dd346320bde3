"""Whether an encoder lost anything since the last run of the same protocol."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adaface.evaluation.history import Finding, compare, history_rows, other_runs, recorded_failures
from adaface.evaluation.summary import Summary, summarise

HASH = "one"
NOW = {"mine": "weights of now"}
SPREAD = np.linspace(-0.1, 0.1, 9)  # of the subjects, the same in every run


def summary_of(
    gap: float | None, text: float = 0.3, subjects: int = 9, method: str = "mine", column: str = "gap_pack"
) -> Summary:
    """A run whose encoder has these means."""
    spread = SPREAD[:subjects] if subjects > 1 else np.zeros(1)
    names = [f"s{number}" for number in range(subjects)]
    table = {
        "method": [method] * subjects,
        "subject": names,
        "prompt_id": ["p"] * subjects,
        "category": ["c"] * subjects,
        "k": [0] * subjects,
        column: np.nan + spread if gap is None else gap + spread,
        "clip_text": text + spread / 10,
        "clip_image": -text + spread,  # no rule looks at it
    }
    return summarise(table, metrics={column: "higher", "clip_text": "higher", "clip_image": "higher"})


def rows(summary: Summary, run: int = 1, protocol: str = HASH) -> list[dict[str, Any]]:
    return history_rows(
        summary,
        run=f"run-{run}",
        finished=f"2025-01-{run:02d}T03:00:00+00:00",
        protocol_hash=protocol,
        method_hashes=dict.fromkeys(summary.methods, "weights"),
    )


def levels(summary: Summary, earlier: list[dict[str, Any]], protocol: str = HASH) -> dict[str, str]:
    findings = compare(summary, earlier, protocol_hash=protocol, methods=summary.methods, method_hashes=NOW)
    return {finding.column: finding.level for finding in findings}


LOW = summary_of(0.5).overall["mine"]["gap_pack"]["low"]
ROOM = 0.5 - LOW  # about 0.04


def test_rows_say_what_was_found():
    summary = summary_of(0.5)
    found = rows(summary)
    assert [row["column"] for row in found] == ["gap_pack", "clip_text", "clip_image"]
    assert found[0] == {
        "run": "run-1",
        "finished": "2025-01-01T03:00:00+00:00",
        "protocol_hash": HASH,
        "method": "mine",
        "method_hash": "weights",
        "column": "gap_pack",
        "mean": pytest.approx(0.5),
        "low": pytest.approx(LOW),
        "high": summary.overall["mine"]["gap_pack"]["high"],
        "level": None,  # nothing was compared
    }


def test_rows_hold_the_shares_of_the_teacher():
    names = ("sd", "mine", "teacher")
    table = {
        "method": list(names),
        "subject": ["s"] * 3,
        "prompt_id": ["p"] * 3,
        "category": ["c"] * 3,
        "k": [0] * 3,
        "gap_pack": [0.0, 0.5, 1.0],
    }
    summary = summarise(table, metrics={"gap_pack": "higher"}, teacher="teacher", baseline="sd")
    shares = {row["method"]: row["mean"] for row in rows(summary) if row["column"] == "identity_pack"}
    assert shares == {"sd": 0, "mine": 0.5, "teacher": 1}


@pytest.mark.parametrize(
    ("gap", "level"),
    [
        (0.5 + ROOM, "ok"),
        (0.5, "ok"),
        (0.5 - 0.4 * ROOM, "ok"),
        (0.5 - 0.6 * ROOM, "warn"),
        (0.5 - 1.1 * ROOM, "fail"),
        (0.1, "fail"),
    ],
)
def test_a_fall_is_measured_by_the_interval_of_the_last_run(gap, level):
    assert levels(summary_of(gap), rows(summary_of(0.5))) == {"gap_pack": level, "clip_text": "ok"}


def test_text_alignment_counts_like_identity():
    assert levels(summary_of(0.5, text=0.2), rows(summary_of(0.5))) == {"clip_text": "fail", "gap_pack": "ok"}


def test_every_recogniser_counts():
    earlier = rows(summary_of(0.5, column="gap_judge"))
    assert levels(summary_of(0.1, column="gap_judge"), earlier)["gap_judge"] == "fail"


def test_failures_come_first_and_say_what_fell():
    findings = compare(
        summary_of(0.5, text=0.1), rows(summary_of(0.5)), protocol_hash=HASH, methods=["mine"], method_hashes=NOW
    )
    first = findings[0]
    assert (first.level, first.column, first.method) == ("fail", "clip_text", "mine")
    assert first.text.startswith("0.300 in run-1, now 0.100: it fell by 0.2000, more than its interval of 0.00")


def test_the_first_run_of_all():
    (finding,) = compare(summary_of(0.5), [], protocol_hash=HASH, methods=["mine"], method_hashes=NOW)
    assert finding.level == "ok" and "first run" in finding.text


def test_the_first_run_of_a_method():
    earlier = rows(summary_of(0.9, method="another"))
    findings = compare(summary_of(0.5), earlier, protocol_hash=HASH, methods=["mine"], method_hashes=NOW)
    assert {finding.level for finding in findings} == {"ok"}
    assert {finding.text for finding in findings} == {"the first of this method"}


def test_another_protocol_cannot_be_compared_and_that_is_said():
    (finding,) = compare(
        summary_of(0.1), rows(summary_of(0.5), run=4), protocol_hash="two", methods=["mine"], method_hashes=NOW
    )
    assert finding.level == "warn" and "the protocol differs from that of the last run, run-4" in finding.text


def test_runs_of_other_protocols_in_between_do_not_count():
    earlier = rows(summary_of(0.5), run=1) + rows(summary_of(0.1), run=2, protocol="two")
    assert levels(summary_of(0.1), earlier)["gap_pack"] == "fail"


def test_the_last_run_counts_and_not_the_last_row():
    earlier = rows(summary_of(0.3), run=3) + rows(summary_of(0.5), run=1)
    assert levels(summary_of(0.28), earlier[::-1]) == levels(summary_of(0.28), earlier)
    assert levels(summary_of(0.3 - 1.1 * ROOM), earlier)["gap_pack"] == "fail"


def test_small_losses_add_up():
    step = 0.4 * ROOM
    earlier = [row for run in range(1, 4) for row in rows(summary_of(0.5 - (run - 1) * step), run=run)]
    assert levels(summary_of(0.5 - 2 * step), earlier)["gap_pack"] == "ok"
    findings = compare(summary_of(0.5 - 3 * step), earlier, protocol_hash=HASH, methods=["mine"], method_hashes=NOW)
    assert findings[0].level == "warn" and "0.500 in run-1, the best run" in findings[0].text


def test_a_score_that_nothing_has_any_more_is_a_failure():
    findings = compare(
        summary_of(None), rows(summary_of(0.5)), protocol_hash=HASH, methods=["mine"], method_hashes=NOW
    )
    assert findings[0].level == "fail" and "no picture has a score" in findings[0].text


@pytest.mark.parametrize(("gap", "level"), [(0.51, "ok"), (0.5, "ok"), (0.49, "warn")])
def test_one_subject_has_no_interval_to_judge_by(gap, level):
    earlier = rows(summary_of(0.5, subjects=1))
    for row in earlier:
        row.update(low=np.nan, high=np.nan)  # as some tables hold it
    assert levels(summary_of(gap, subjects=1), earlier)["gap_pack"] == level


def test_equal_subjects_leave_room_for_rounding():
    same = rows(summary_of(0.5))
    for row in same:
        row["low"] = row["high"] = row["mean"]
    assert levels(summary_of(0.5 - 1e-9), same)["gap_pack"] == "ok"
    assert levels(summary_of(0.499), same)["gap_pack"] == "fail"


def test_a_failed_run_that_is_started_again_fails_again():
    """Its rows are in the history by then."""
    before, worse = rows(summary_of(0.5)), summary_of(0.1)
    own = [{**row, "method_hash": NOW["mine"]} for row in rows(worse, run=2)]
    assert levels(worse, [*before, *own])["gap_pack"] == "fail"
    (finding,) = compare(worse, own, protocol_hash=HASH, methods=["mine"], method_hashes=NOW)
    assert (finding.level, finding.text) == ("ok", "the first run: there is nothing to compare with")


def judged(summary: Summary, earlier: list[dict[str, Any]], run: int) -> list[dict[str, Any]]:
    """The rows of a run of other weights that was compared with `earlier`."""
    hashes = {"mine": f"weights of {run}"}
    findings = compare(summary, earlier, protocol_hash=HASH, methods=["mine"], method_hashes=hashes)
    finished = f"2025-01-{run:02d}T03:00:00+00:00"
    return history_rows(
        summary, run=f"run-{run}", finished=finished, protocol_hash=HASH, method_hashes=hashes, findings=findings
    )


def test_a_run_that_failed_is_no_mark_for_the_next():
    """It gave identity away for text: one that gives neither away is no loss, and one that is as bad is one again."""
    history = rows(summary_of(0.5))
    history += judged(summary_of(0.1, text=0.4), history, run=2)
    kept = {row["column"]: row["level"] for row in history if row["run"] == "run-2"}
    assert kept == {"gap_pack": "fail", "clip_text": "ok", "clip_image": None}
    for _ in range(2):
        assert levels(summary_of(0.1), history) == {"gap_pack": "fail", "clip_text": "ok"}
        history += judged(summary_of(0.1), history, run=3)
    assert levels(summary_of(0.5 - 0.4 * ROOM), history) == {"gap_pack": "ok", "clip_text": "ok"}


def test_rows_from_before_levels_were_kept_did_not_fail():
    old = [{name: value for name, value in row.items() if name != "level"} for row in rows(summary_of(0.5))]
    assert levels(summary_of(0.1), old)["gap_pack"] == "fail"
    assert recorded_failures(old, protocol_hash=HASH, methods=["mine"], method_hashes={"mine": "weights"}) == []


def test_what_the_last_run_of_the_same_weights_failed_with():
    history = rows(summary_of(0.5))
    history += judged(summary_of(None, text=0.2), history, run=2)
    asked: dict[str, Any] = {"protocol_hash": HASH, "methods": ["mine"]}
    gap, text = recorded_failures(history, **asked, method_hashes={"mine": "weights of 2"})
    assert gap == Finding("fail", "gap_pack", "no score in run-2, which failed", "mine")
    assert text.line == "mine clip_text: 0.200 in run-2, which failed"
    assert recorded_failures(history, **asked, method_hashes={"mine": "weights"}) == []
    again = [{**row, "run": "run-3", "finished": "2025-01-03", "level": "ok"} for row in history[-3:]]
    assert recorded_failures([*history, *again], **asked, method_hashes={"mine": "weights of 2"}) == []


def test_a_run_that_is_done_again_is_shown_once():
    plain = [{**row, "method": "plain"} for row in rows(summary_of(0.0))]
    known = [*rows(summary_of(0.5)), *plain]
    before = [{**row, "run": "run-0"} for row in known] + [
        {**row, "run": "run-0", "method": "another"} for row in plain
    ]
    shown = other_runs([*before, *known], protocol_hash=HASH, method_hashes={"mine": "weights", "plain": "weights"})
    assert shown == before  # a run with something else in it stays whole, so that curves have no gaps
    assert other_runs(known, protocol_hash="two", method_hashes={"mine": "weights", "plain": "weights"}) == known


def test_without_encoders_there_is_nothing_to_judge():
    (finding,) = compare(summary_of(0.5), [], protocol_hash=HASH, methods=[], method_hashes=NOW)
    assert finding.level == "ok"
    with pytest.raises(ValueError, match="other has no scores; methods are mine"):
        compare(summary_of(0.5), [], protocol_hash=HASH, methods=["other"], method_hashes=NOW)


def test_without_the_columns_that_matter_it_says_so():
    table = {
        "method": ["mine"],
        "subject": ["s"],
        "prompt_id": ["p"],
        "category": ["c"],
        "k": [0],
        "dino": [0.5],
    }
    summary = summarise(table, metrics={"dino": "higher"})
    (finding,) = compare(summary, rows(summary), protocol_hash=HASH, methods=["mine"], method_hashes=NOW)
    assert finding.level == "warn" and "nothing can be compared" in finding.text
