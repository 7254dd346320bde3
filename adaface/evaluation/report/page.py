"""The page: what is on it, in which order; `template.html.j2` says how it looks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adaface.evaluation.reference_faces import LEAST_SCORE
from adaface.evaluation.report.charts import CATEGORIES, category_charts, history_charts, tradeoffs
from adaface.evaluation.report.choices import undetected
from adaface.evaluation.report.data import ReportData
from adaface.evaluation.report.drawing import hues, key
from adaface.evaluation.report.estimates import LEAST_SUBJECTS
from adaface.evaluation.report.pictures import Photos, shown_cases, shown_faceless, shown_grids
from adaface.evaluation.report.tables import measure_groups, prompt_table, provenance, subject_table, undetected_table
from adaface.evaluation.report.thumbnails import Thumbnails
from adaface.evaluation.report.verdict import finding_rows, gaps_in_measurement, verdict
from adaface.evaluation.report.wording import shortened, without_credentials, write_count, write_percent, write_time
from adaface.html_page.render import render_page

FOLDER = Path(__file__).parent


def build_report(data: ReportData) -> str:
    """The report of an evaluation as one HTML page.

    It needs no other file and loads nothing; its size is bounded whatever the number of pictures. Equal data give equal
    text. Raises ModuleNotFoundError where jinja2 is not installed.
    """
    filters = {
        "count": write_count,
        "percent": write_percent,
        "when": write_time,
        "plain": without_credentials,
        "short": shortened,
    }
    return render_page(FOLDER, filters, _content(data))


def _content(data: ReportData) -> dict[str, Any]:
    pictures = Thumbnails(data.load)
    photos = Photos(data)
    colours = hues(data)
    return {
        "title": data.title,
        "finished": data.finished,
        "verdict": verdict(data),
        "findings": finding_rows(data),
        "warnings": [*data.warnings, *gaps_in_measurement(data)],
        "pictures": len(data),
        "methods": [
            {"name": method.name, "role": _role(data, method.name, method.kind), "key": key(colours[method.name])}
            for method in data.methods
        ],
        "keys": {name: key(hue) for name, hue in colours.items()},
        "subject_count": len(data.subjects),
        "least_subjects": LEAST_SUBJECTS,
        "own_methods": [method.name for method in data.methods if method.kind == "entry_point"],
        "prompt_count": len(data.prompts),
        "category_count": len({prompt.category for prompt in data.prompts}),
        "category_limit": CATEGORIES,
        "seeds": len({int(k) for k in data.scores["k"]}),
        "faceless": len(undetected(data)),
        "looked": data.has("detected"),
        "compared": bool(data.baseline and data.teacher),
        "recogniser": data.recogniser,
        "least_score": f"{LEAST_SCORE:.2f}",
        "draws": data.summary.get("draws") or {},
        "headline": measure_groups(data, main=True),
        "tradeoffs": tradeoffs(data),
        "grids": shown_grids(data, pictures, photos),
        "categories": category_charts(data),
        "cases": shown_cases(data, pictures, photos),
        "cases_against_baseline": data.baseline is not None and (data.has("clip_text") or data.has("composition")),
        "undetected": undetected_table(data) if data.has("detected") else [],
        "faceless_shown": shown_faceless(data, pictures),
        "history": history_charts(data),
        "subjects": subject_table(data),
        "prompts": prompt_table(data),
        "measures_all": measure_groups(data, main=False),
        "protocol": list(data.protocol.items()),
        "provenance": provenance(data),
    }


def _role(data: ReportData, name: str, kind: str) -> str:
    """What a method is in this comparison."""
    if name == data.baseline:
        return "baseline"
    if name == data.teacher:
        return "reference" if name == "teacher" else "teacher"
    return {"encoder": "encoder", "entry_point": "own method"}.get(kind, kind.replace("_", " "))
