"""The page as a whole: complete, self-contained, safe, of bounded size, the same every time."""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import re
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adaface.evaluation.report import ReportData, SubjectInfo, build_report, markdown
from adaface.evaluation.report.tables import measure_groups
from adaface.evaluation.summary import Summary
from tests.adaface.evaluation.report.html_page import Page

SECTIONS = (
    *("results", "tradeoff", "pictures", "categories", "cases", "undetected", "history", "subjects", "prompts"),
    *("measures", "provenance"),
)
NASTY = "<script>alert('x')</script>&\"><img src=http://evil.example/x onerror=alert(1)>"


@pytest.fixture(scope="module")
def html(run: ReportData) -> str:
    return build_report(run)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def assert_self_contained(html: str) -> None:
    page = Page(html)
    assert page.problems == []
    for tag, attributes, _ in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form", "image", "use", "foreignobject"), tag
        for name in ("src", "srcset", "poster", "data", "action", "xlink:href", "background"):
            assert (attributes.get(name) or "data:image/").startswith("data:image/"), (tag, name)
        assert (attributes.get("href") or "#").startswith("#"), (tag, attributes)
        assert not any(name.startswith("on") or name == "style" for name in attributes), (tag, attributes)
    assert "@import" not in html
    assert "url(" not in html


def test_well_formed_and_self_contained(html: str) -> None:
    assert_self_contained(html)


def test_links_of_the_page_lead_somewhere(page: Page) -> None:
    places = {attributes["id"] for _, attributes, _ in page.tags if "id" in attributes}
    links = {attributes["href"] for tag, attributes, _ in page.tags if tag == "a"}
    assert {link.removeprefix("#") for link in links if link} <= places
    assert {f"#{section}" for section in SECTIONS} <= links


def test_policy_allows_exactly_what_is_inside(html: str) -> None:
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', html)
    assert policy
    allowed = policy[1].replace("&#39;", "'")
    assert allowed.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in allowed
    for tag in ("style", "script"):
        blocks = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        assert len(blocks) == 1
        digest = base64.b64encode(hashlib.sha256(blocks[0].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in allowed


def test_every_section_has_something_to_say(page: Page) -> None:
    assert [attributes["id"] for tag, attributes, _ in page.tags if tag == "section"] == list(SECTIONS)
    for section in SECTIONS:
        assert page.count("empty", section) == 0, section
        assert len(page.text(section)) > 80, section


def test_numbers_are_those_of_the_summary(run: ReportData, page: Page) -> None:
    """Every mean of the headline stands there with its interval."""
    words = page.text("results")
    for name, column in run.columns.items():
        if not column.main:
            continue
        assert column.label in words
        for method in run.methods:
            cell = (run.summary["overall"][method.name] | run.summary["derived"][method.name])[name]
            if cell["mean"] is None or (name.startswith("identity_") and method.name != "adaface"):
                continue
            for value in (cell["mean"], cell["low"], cell["high"]):
                text = f"{round(100 * value, 1) + 0:.1f}" if column.share else f"{round(value, 3) + 0:.3f}"
                assert text.replace("-", "−").removesuffix("0.0") in words, (name, method.name, value)


def test_baseline_ceiling_and_definitions(page: Page) -> None:
    words = page.text("results")
    assert "class-word baseline" in words
    assert "Ceiling two real photos of one person pack 0.710 judge 0.660" in words
    assert words.count("by definition") == 4  # 0% and 100%, by two recognisers
    assert "the yardstick" in words  # of base undisturbed


def test_best_values_are_marked(run: ReportData, html: str) -> None:
    row = re.search(r'scope="row">Text alignment<small>.*?</tr>', html, re.DOTALL)
    assert row
    best = re.findall(r'<td class="number best"[^>]*>.*?<span class="value">([\d.]+)', row[0])
    assert best == [f"{run.summary['overall']['class-word']['clip_text']['mean']:.3f}"]
    diversity = re.search(r'scope="row">Diversity<small>.*?</tr>', html, re.DOTALL)
    assert diversity
    assert "best" not in diversity[0]


def test_every_measure_says_what_it_is_and_who_measured_it(run: ReportData, page: Page) -> None:
    words = page.text("measures")
    for column in run.columns.values():
        assert column.label in words
        assert column.about in words
        assert column.model in words
    assert "antelopev2 (encoders read its embeddings)" in words
    assert "judge.onnx (not used in training)" in words
    assert "openai/clip-vit-base-patch32" in words
    assert words.count("lower is better") == 2
    assert "/home/me" not in page.text()


def test_the_verdict_speaks_of_the_encoder(run: ReportData, page: Page) -> None:
    share = run.summary["derived"]["adaface"]["identity_pack"]
    assert f"adaface keeps {100 * share['mean']:.1f}% ({100 * share['low']:.1f}–" in page.text("")
    text = run.summary["overall"]["class-word"]["clip_text"]["mean"]
    assert f"class word alone reaches {text:.3f}" in page.text("")


def test_pictures_stand_beside_a_photo(run: ReportData, page: Page) -> None:
    words = page.text("pictures")
    assert "4 of 9 subjects and 6 of 8 prompts for each" in words
    assert page.images("pictures") == 4 * 6 * (1 + 3)
    assert "young woman · 7 photos, 2 of them given to the methods · two of them agree at 0.71" in words
    assert "held back" in words
    assert "a photo of a young woman number" in words


def test_best_and_worst_pictures(page: Page) -> None:
    assert "8 best and 8 worst of 144 pictures" in page.text("cases")
    assert page.count("pair", "cases") == 16
    assert page.images("cases") == 32


def test_pictures_without_a_face_are_counted(run: ReportData, page: Page) -> None:
    lost = int((run.values("detected") == 0).sum())
    assert lost > 24
    assert f"In {lost} pictures the detector found no face." in page.text("undetected")
    assert page.count("undetected", "undetected") == 24
    assert f"24 of {lost}, from all methods in turn" in page.text("undetected")
    own = int(((run.values("detected") == 0) & (run.scores["method"] == "adaface")).sum())
    assert f"No face in {own} of 144 pictures." in page.text("")


def test_history_is_drawn_and_breaks_at_another_protocol(run: ReportData, html: str, page: Page) -> None:
    assert "The last 5 of 5 runs" in page.text("history")
    charts = re.findall(r'<svg class="chart curves".*?</svg>', html, re.DOTALL)
    assert len(charts) == 8
    assert all(chart.count('class="change"') == 1 for chart in charts)
    assert "a change of the protocol" in page.text("history")
    assert 'class="trail"' in html
    assert "3 earlier runs" in page.text("tradeoff")  # of the same protocol


def test_tables_have_all_subjects_and_prompts(run: ReportData, page: Page) -> None:
    for subject in run.subjects:
        assert subject.name in page.text("subjects")
    for prompt in run.prompts:
        assert prompt.text in page.text("prompts")
    mean = run.summary["by_subject"]["adaface"]["person0"]["gap_pack"]["mean"]
    assert f"{mean:.2f}" in page.text("subjects")


def test_provenance(page: Page) -> None:
    words = page.text("provenance")
    for piece in ("config_hash", "c0ffee", "torch", "2.13", "ab" * 32, "DDIM, 50 steps", "a: 1 b: 2"):
        assert piece in words


def test_findings_and_warnings_come_first(make: Callable[..., ReportData]) -> None:
    class Finding:
        level, column, method, text = "fail", "clip_text", "adaface", "it fell by 0.040"

    words = Page(build_report(make(runs=0, findings=[Finding()], warnings=["3 photos have no face"]))).text("")
    assert "Worse adaface, Text alignment: it fell by 0.040" in words
    assert "3 photos have no face" in words


def test_what_did_not_fall_takes_one_line(page: Page) -> None:
    assert "Fine 3 comparisons with earlier runs adaface, Identity gap, pack: 0." in page.text("")
    assert page.count("ok") == 1


def test_everything_is_escaped(make: Callable[..., ReportData]) -> None:
    class Finding:
        level, column, method, text = "warn", NASTY, NASTY, NASTY

    data = make(
        subjects=(f"{NASTY}1", f"{NASTY}2"),
        prompts=(f"{NASTY} {{}}", f"a {{}} {NASTY}", "b {}"),
        methods=("class-word", "teacher", NASTY),
        title=NASTY,
        finished=NASTY,
        warnings=[NASTY],
        findings=[Finding()],
        provenance={NASTY: {NASTY: NASTY}, "text": f"{NASTY}\n{NASTY}"},
        protocol={NASTY: NASTY},
    )
    html = build_report(data)
    page = Page(html)
    assert_self_contained(html)
    assert "<script>alert" not in html
    assert [tag for tag, _, _ in page.tags].count("script") == 1
    assert page.text("").count("alert('x')") > 5
    assert page.text("prompts").count("alert('x')") > 2
    assert "onerror" in page.text("subjects")


def test_credentials_stay_out(make: Callable[..., ReportData]) -> None:
    secret = "s3://AKIA123:hunter2@bucket/run?secret_key=hunter3"
    html = build_report(
        make(provenance={"where": secret, "config": f"output: {secret}\nseed: 1\n"}, protocol={"out": secret})
    )
    assert "bucket/run" in html
    assert "hunter" not in html
    assert "AKIA" not in html


def test_equal_data_give_equal_pages(make: Callable[..., ReportData], html: str) -> None:
    assert build_report(make()) == html


def test_one_method_alone(make: Callable[..., ReportData]) -> None:
    html = build_report(make(methods=("adaface",), runs=0))
    page = Page(html)
    assert_self_contained(html)
    assert "There is no class-word method" in page.text("")
    assert "There is no teacher in this run" in page.text("")
    assert "has an identity gap of" in page.text("")
    assert "Identity kept" not in page.text()
    assert page.count("best", "results") == 0
    assert "There is no history yet." in page.text("history")


def test_reference_methods_alone(make: Callable[..., ReportData]) -> None:
    page = Page(build_report(make(methods=("class-word", "teacher"))))
    assert page.problems == []
    assert page.count("verdict") == 0
    assert "8 best and 8 worst" in page.text("cases")


def test_many_methods(make: Callable[..., ReportData]) -> None:
    page = Page(build_report(make(methods=("class-word", "teacher", *(f"step-{i:06d}" for i in range(12))), runs=0)))
    assert page.problems == []
    assert "step-000011" in page.text("results")
    assert page.count("case", "cases") == 12


def test_one_run_of_history(make: Callable[..., ReportData]) -> None:
    assert "The history holds 1 run" in Page(build_report(make(runs=1))).text("history")


def test_no_pictures_at_all(make: Callable[..., ReportData]) -> None:
    html = build_report(make(subjects=0, runs=0))
    page = Page(html)
    assert_self_contained(html)
    assert "No picture was scored" in page.text("")
    for section in SECTIONS[:-1]:
        assert page.count("empty", section) == 1, section


def test_what_was_not_measured_is_said(make: Callable[..., ReportData]) -> None:
    html = build_report(
        make(without=("clip_text", "composition", "composition_place", "undisturbed", "copy_judge"), runs=0)
    )
    page = Page(html)
    assert_self_contained(html)
    assert "Neither CLIP nor a scene classifier was at work" in page.text("")
    assert "No picture has a value for: Text alignment; Composition" in page.text("")
    assert "Identity and text were not both measured" in page.text("tradeoff")
    assert "nan" not in page.text().lower().split()


def test_without_a_recogniser(make: Callable[..., ReportData]) -> None:
    page = Page(build_report(make(recognisers=(), runs=0, first=None)))
    assert page.problems == []
    assert "No face recogniser was at work" in page.text("")
    assert "No detector looked for faces." in page.text("undetected")
    assert "nobody looked" in page.text("")


def test_pictures_lost_in_part(make: Callable[..., ReportData]) -> None:
    """Where text alignment of some pictures is missing, their number is said."""
    data = make(runs=0)
    data.scores["clip_text"][:7] = np.nan
    assert "Text alignment: 7 pictures (1.6%) could not be measured" in Page(build_report(data)).text("")


def test_one_subject_has_no_intervals(make: Callable[..., ReportData]) -> None:
    page = Page(build_report(make(subjects=1, runs=0)))
    assert page.problems == []
    assert "There is one subject" in page.text("")


def test_few_subjects_are_pointed_out(make: Callable[..., ReportData]) -> None:
    text = Page(build_report(make(subjects=4, runs=0))).text()
    assert "There are only 4 subjects." in text and "in about 79% of cases with 4 subjects" in text
    assert "with 95% intervals" in text


def test_of_two_or_three_subjects_no_interval_is_shown(make: Callable[..., ReportData]) -> None:
    data = make(subjects=3, runs=0)
    cell = data.summary["overall"]["adaface"]["clip_text"]
    assert cell["low"] < cell["mean"] < cell["high"], "the summary has it, for whoever knows what it is worth"
    page = Page(build_report(data))
    assert "There are only 3 subjects: too few for intervals" in page.text()
    assert "with 95% intervals" not in page.text() and "Bars are 95%" not in page.text()
    rows = [row for group in measure_groups(data, main=True) for row in group["rows"]]
    assert {cell["range"] for row in rows for cell in row["cells"]} == {""}
    assert "whisker" not in "".join(row["strip"] for row in rows)
    assert "(" not in markdown(data).split("| Text alignment")[1].splitlines()[0]


def test_what_own_methods_do_with_a_seed_is_not_claimed(make: Callable[..., ReportData]) -> None:
    same = "given the same seed, which is the same noise"
    assert same in Page(build_report(make(runs=0))).text()
    data = make(runs=0)
    own = [replace(one, kind="entry_point") if one.name == "adaface" else one for one in data.methods]
    text = Page(build_report(replace(data, methods=own))).text()
    assert same not in text and "whether adaface draws with it is not known here" in text


def test_failures_and_likeness_stand_in_the_headline(run: ReportData) -> None:
    rows = [row["name"] for group in measure_groups(run, main=True) for row in group["rows"]]
    assert {"face_pack", "face_pack_or_0", "face_judge_or_0", "clip_image", "dino"} <= {*rows}


def test_methods_that_drew_different_pictures(make: Callable[..., ReportData]) -> None:
    data = make(runs=0)
    keep = ~((data.scores["method"] == "teacher") & (data.scores["prompt_id"] == "prompt-2"))
    cut = replace(data, scores={name: values[keep] for name, values in data.scores.items()})
    page = Page(build_report(cut))
    assert "The methods did not draw the same pictures (class-word 144, teacher 126, adaface 144)" in page.text("")


def test_pictures_without_a_value_are_counted(run: ReportData, page: Page) -> None:
    lost = int((run.values("detected") == 0).sum())
    assert f"{lost} of 432 pictures have no such value and do not count" in page.text("measures")
    assert any(attributes.get("title") == "9 subjects, 144 pictures" for _, attributes, _ in page.tags)


def test_no_pictures_are_wanted(make: Callable[..., ReportData]) -> None:
    for nothing in ({"grid_subjects": 0}, {"grid_prompts": 0}):
        page = Page(build_report(make(runs=0, cases=0, faceless=0, **nothing)))
        assert page.problems == []
        assert not any(tag == "img" for tag, _, _ in page.tags)
        assert "The detector found a face in every picture." in page.text("undetected")


def test_pictures_that_are_gone_leave_placeholders(make: Callable[..., ReportData]) -> None:
    def load(file: str) -> np.ndarray:
        if "adaface" in file:
            raise FileNotFoundError(file)
        if "teacher" in file:
            raise OSError("cannot reach http://secret.example/")
        return np.zeros((8, 8), np.uint8)  # not an RGB picture

    html = build_report(make(load=load, runs=0))
    page = Page(html)
    assert_self_contained(html)
    assert "the picture is no longer there" in page.text("pictures")
    assert "the picture cannot be read (OSError)" in page.text("pictures")
    assert "the picture cannot be read (ValueError)" in page.text("pictures")
    assert "secret.example" not in html


def test_subjects_without_photos(make: Callable[..., ReportData]) -> None:
    data = make(runs=0)
    bare = [SubjectInfo(subject.name, subject.class_word) for subject in data.subjects]
    page = Page(build_report(replace(data, subjects=bare)))
    assert page.problems == []
    assert "no photo" in page.text("pictures")
    assert page.images("pictures") == 4 * 6 * 3


def test_size_is_bounded_for_large_runs(make: Callable[..., ReportData]) -> None:
    """25 people x 47 prompts x 4 seeds x 5 methods, pictures that no JPEG makes small, and all that can be asked for."""
    data = make(
        methods=("class-word", "teacher", "a", "b", "c"),
        subjects=25,
        prompts=47,
        seeds=4,
        runs=3,
        noise=True,
        side=200,
        grid_subjects=100,
        grid_prompts=100,
        cases=100,
    )
    assert len(data) == 23_500
    html = build_report(data)
    assert len(html.encode()) < 12_000_000
    page = Page(html)
    assert page.problems == []
    assert 250 < page.images("pictures") <= 300
    assert "25 of 25 subjects and 2 of 47 prompts for each" in page.text("pictures")
    assert page.images("cases") <= 160


def test_every_file_of_the_page_is_packaged(project: Path) -> None:
    patterns = tomllib.loads((project / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["*"]
    for file in (project / "adaface" / "evaluation" / "report").iterdir():
        if file.is_file() and file.suffix not in (".py", ".pyc"):
            assert any(fnmatch.fnmatch(file.name, pattern) for pattern in patterns), f"{file.name} is not packaged"


def test_data_that_do_not_belong_together_are_refused(make: Callable[..., ReportData]) -> None:
    data = make(runs=0)
    scores = {name: values for name, values in data.scores.items() if name != "dino"} | {"k": data.scores["k"][:-1]}
    wrong = (
        r"differ in length.*a subject that is not described: person0.*without scores: dino.*cases must not be negative"
    )
    with pytest.raises(ValueError, match=wrong):
        replace(data, scores=scores, subjects=data.subjects[1:], cases=-1)


def test_summary_names_are_those_of_the_dataclass(run: ReportData) -> None:
    """The report reads `Summary.to_dict()`; a field that is renamed there must be renamed here."""
    read = {
        "columns",
        "overall",
        "derived",
        "by_category",
        "by_subject",
        "by_prompt",
        "categories",
        "ceiling",
        "draws",
    }
    assert read | {"teacher", "baseline"} <= set(Summary.__dataclass_fields__)
    assert "differences" in run.summary
