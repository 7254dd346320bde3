"""What of a run is not done yet, by what lies in its output. Names and times are looked at, no picture is opened."""

from __future__ import annotations

import pyarrow.fs as fs

from adaface.evaluation.subjects import Subject
from data_pipeline.storage import Storage
from ray_jobs.evaluate_parts import Job


def subjects_to_do(job: Job, out: Storage) -> list[Subject]:
    """Whose photos have no features."""
    there = set(out.list("references"))
    return [subject for subject in job.subjects.values() if job.reference_file(subject) not in there]


def parts_to_do(job: Job, out: Storage) -> list[int]:
    """Numbers of the parts of which features or pictures are missing, or a picture is newer than the features.

    A picture that was lost is drawn again, though it was measured. One that is newer may be of other settings, which an
    evaluation in between has drawn; whoever draws the part looks into it.
    """
    features, pictures = _times(out, "features"), _times(out, "images")
    return [
        number
        for number, part in enumerate(job.parts)
        if (measured := features.get(job.part_file(part))) is None
        or any(pictures.get(picture.file, measured + 1) > measured for picture in part.pictures)
    ]


def _times(out: Storage, folder: str) -> dict[str, int]:
    """{name: when it was written, in nanoseconds} of all files below a folder."""
    filesystem, root = out.filesystem()
    selector = fs.FileSelector(f"{root}/{folder}", recursive=True, allow_not_found=True)
    found = filesystem.get_file_info(selector)
    return {info.path[len(root) + 1 :]: info.mtime_ns or 0 for info in found if info.type == fs.FileType.File}
