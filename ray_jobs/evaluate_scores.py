"""From features to scores, summary, findings and report: numbers and pages, no network but the face detector."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from adaface.encoder.files import WEIGHTS
from adaface.evaluation.gallery import Gallery
from adaface.evaluation.history import compare, history_rows, other_runs
from adaface.evaluation.metrics.base import Metric, References, Table, score_all
from adaface.evaluation.metrics.face_similarity import ceiling
from adaface.evaluation.metrics.registry import metrics_for
from adaface.evaluation.plan import Picture
from adaface.evaluation.protocol_words import protocol_words
from adaface.evaluation.reference_faces import reference_faces
from adaface.evaluation.report.data import MethodInfo, PromptInfo, ReportData, SubjectInfo
from adaface.evaluation.subjects import read_references
from adaface.evaluation.summary import Summary, summarise
from data_pipeline.storage import Storage
from ray_jobs.config_file import resolved_yaml
from ray_jobs.evaluate_config import EvaluateConfig
from ray_jobs.evaluate_history import encoder_names, protocol_hash, read_history, write_history
from ray_jobs.evaluate_parts import Job
from ray_jobs.evaluate_provenance import measures_file, method_file, noted
from ray_jobs.versions import versions

SCORES, SUMMARY = "scores.parquet", "summary.json"
_SAID = ("protocol_hash", "method", "method_hash", "column", "mean", "level")  # by a row of the history
_THUMBNAILS = 6  # photos of a subject in the report
_PIXELS = 1 << 26  # of one picture of ours


def write_scores(job: Job) -> dict[str, Any]:
    """scores.parquet and summary.json, from the features; the summary's content with the number of pictures."""
    out, config = Storage(job.config.output), job.config
    references = _references(out, job)
    table = _table(out, job)
    metrics = _metrics(job)
    columns: dict[str, Any] = {
        "method": [picture.method for picture in table.pictures],
        "subject": [picture.subject for picture in table.pictures],
        "prompt_id": [picture.prompt_id for picture in table.pictures],
        "category": [job.prompts[picture.prompt_id].category for picture in table.pictures],
        "k": [picture.k for picture in table.pictures],
        "seed": [picture.seed for picture in table.pictures],
        "prompt": [job.prompts[p.prompt_id].of(job.class_words[p.subject]) for p in table.pictures],
        "file": [picture.file for picture in table.pictures],
        "faces": table.features.faces,
    }
    columns |= score_all(metrics, table, references)
    directions = {column: str(way) for metric in metrics for column, way in metric.columns.items()}
    out.write_table(SCORES, pa.table({name: pa.array(values) for name, values in columns.items()}))
    summary = _summary(config, columns, directions, references)
    content = summary.to_dict() | {"images": len(table.pictures), "findings": []}
    out.write_json(SUMMARY, content)
    return content


def write_report(job: Job, content: dict[str, Any], about: dict[str, str]) -> dict[str, Any]:
    """The pages, the findings against the history, and this run's rows in it; returns the summary with the findings.

    Args:
        content: what `write_scores` returned.
        about: "config_hash", "started" and "finished" of the run.
    """
    out, config = Storage(job.config.output), job.config
    references = _references(out, job)
    scores = out.read_table(SCORES)
    columns: dict[str, Any] = {name: scores[name].to_numpy(zero_copy_only=False) for name in scores.column_names}
    directions = content["columns"]
    summary = _summary(config, columns, directions, references)
    protocol = protocol_hash(config, job.digests, job.subjects.values(), job.prompts.values())
    run = f"{about['started'].replace(':', '').replace('+0000', 'Z')}-{about['config_hash'][:8]}"
    earlier, hashes = read_history(config), job.digests.method_files
    findings = compare(summary, earlier, protocol_hash=protocol, methods=encoder_names(config), method_hashes=hashes)
    rows = history_rows(
        summary,
        run=run,
        finished=about["finished"],
        protocol_hash=protocol,
        method_hashes=hashes,
        findings=findings,
    )
    shown = [*other_runs(earlier, protocol_hash=protocol, method_hashes=hashes), *rows]
    about = {**about, "protocol_hash": protocol}
    data = _report_data(job, summary, columns, references, shown, findings, about, run)
    for name, text in _pages(data).items():
        out.write_bytes(f"report/{name}", text.encode())
    content = content | {"findings": [asdict(finding) for finding in findings], "run": run, "protocol_hash": protocol}
    out.write_json(SUMMARY, content)
    # last: a run that failed before leaves no row, and a repeated one does not repeat what it says
    said = {tuple(row[key] for key in _SAID) for row in earlier}
    if any(tuple(row[key] for key in _SAID) not in said for row in rows):
        write_history(config, run, rows)
    return content


def _references(out: Storage, job: Job) -> dict[str, References]:
    return {
        name: References(subject, Gallery.from_rows(out.read_table(job.reference_file(subject)).to_pylist()))
        for name, subject in job.subjects.items()
    }


def _table(out: Storage, job: Job) -> Table:
    galleries, texts = [], []
    pictures: list[Picture] = []
    for part in job.parts:
        rows = out.read_table(job.part_file(part)).to_pylist()
        galleries.append(Gallery.from_rows(rows))
        texts += [row["text"] for row in rows if "text" in row]
        pictures += part.pictures
    return Table(
        pictures=pictures,
        prompts=job.prompts,
        features=Gallery.concat(galleries),
        text=np.array(texts, np.float32) if texts else None,
        baseline=job.config.baseline,
    )


def _summary(
    config: EvaluateConfig, columns: dict[str, Any], directions: dict[str, str], references: dict[str, References]
) -> Summary:
    return summarise(
        columns,
        metrics=directions,
        bootstrap=config.measures.bootstrap,
        seed=config.generation.seed,
        teacher=config.teacher,
        baseline=config.baseline,
        ceiling=_ceilings(references),
    )


def _metrics(job: Job) -> list[Metric]:
    return metrics_for(
        job.config.measures,
        baseline=job.config.baseline is not None,
        held_back=any(subject.held_back for subject in job.subjects.values()),
        prompts=job.prompts.values(),
    )


def _ceilings(references: dict[str, References]) -> dict[str, float]:
    """By recogniser: mean over subjects of what their photos reach among themselves."""
    each = [ceiling(own) for own in references.values()]
    known = {name: [own[name] for own in each if not np.isnan(own[name])] for name in each[0]}
    return {name: float(np.mean(values)) for name, values in known.items() if values}


def _report_data(
    job: Job,
    summary: Summary,
    columns: dict[str, Any],
    references: dict[str, References],
    history: Sequence[Mapping[str, Any]],
    findings: list[Any],
    about: dict[str, str],
    run: str,
) -> ReportData:
    from adaface.evaluation.report import describe_columns

    config, out = job.config, Storage(job.config.output)
    subjects, faces = [], reference_faces(references, config.measures.first)
    for name, subject in job.subjects.items():
        own = ceiling(references[name])
        photos = read_references(subject, 256)[:_THUMBNAILS]
        subjects.append(
            SubjectInfo(name, subject.class_word, photos, subject.given, len(subject.photos), own, faces[name])
        )
    return ReportData(
        title=config.report.title,
        finished=about["finished"],
        summary=summary.to_dict(),
        columns=describe_columns(_metrics(job), config.measures),
        methods=[
            MethodInfo(
                method.name,
                method.kind,
                {
                    "settings": method.model_dump(mode="json", exclude={"name", "kind"}),
                    "files": (files := _files(job, method.name)),
                    # in the model card, for whoever has the file before them
                    **({f"{WEIGHTS} sha256": files[WEIGHTS]} if method.kind == "encoder" else {}),
                    "as loaded": noted(out, method_file(job.digests, method.name)),
                },
            )
            for method in config.methods
        ],
        subjects=subjects,
        prompts=[PromptInfo(prompt.id, prompt.category, prompt.text) for prompt in job.prompts.values()],
        scores=columns,
        load=lambda file: _load(out, file),
        history=history,
        findings=findings,
        provenance={
            "configuration": resolved_yaml(config),
            "configuration hash": about["config_hash"],
            "protocol hash": about["protocol_hash"],
            "models": job.digests.models,
            "measured with": noted(out, measures_file(job.digests)),
            "versions": versions(),
            "started": about["started"],
        },
        protocol=protocol_words(config, len(subjects), len(job.prompts)),
        first=config.measures.first,
        run=run,
        grid_subjects=config.report.grid_subjects,
        grid_prompts=config.report.grid_prompts,
        cases=config.report.cases,
    )


def _files(job: Job, method: str) -> dict[str, str]:
    roles = {role.partition(": "): value for role, value in job.digests.models.items()}
    return {role: value for (owner, _, role), value in roles.items() if owner == method}


def _pages(data: ReportData) -> dict[str, str]:
    from adaface.evaluation.report import build_report, markdown, model_card_section

    pages = {"index.html": build_report(data), "report.md": markdown(data)}
    for method in data.methods:
        if method.kind == "encoder":
            pages[f"model-card-{method.name}.md"] = model_card_section(data, method.name)
    return pages


def _load(out: Storage, file: str) -> np.ndarray:
    with Image.open(io.BytesIO(out.read_bytes(file)), formats=["PNG"]) as image:
        if image.width * image.height > _PIXELS:
            raise ValueError(f"{file}: {image.width} x {image.height} px is no picture of this run")
        return np.asarray(image.convert("RGB"))
