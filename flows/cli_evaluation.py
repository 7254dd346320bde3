"""Commands about evaluations."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adaface.evaluation.config import EvaluationConfig
    from adaface.evaluation.prompts import Prompt
    from adaface.evaluation.subjects import Subject

# Each command imports what it needs when it runs: `adaface --help` must not take the seconds that torch and Ray take.


def add_commands(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add them to the command line; `common` are the options that every command has."""
    listing = commands.add_parser(
        "prompts",
        parents=[common],
        help="write the prompts of an evaluation without drawing anything",
        description="Tab-separated lines as the original writes them: number of pictures, folder, prompt with the "
        "subject, prompt with the class word, prompt with the class in one word.",
    )
    source = listing.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", metavar="FILE", help="configuration of an evaluation: its subjects and prompts")
    source.add_argument(
        "--prompts", nargs="+", metavar="SET", dest="sets", help="live, community, grid, or files of prompts"
    )
    listing.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="change one value of the configuration, e.g. prompts.limit=8; may be repeated",
    )
    listing.add_argument(
        "--subject", metavar="NAME", help="one subject of the configuration; with --prompts: its name"
    )
    listing.add_argument(
        "--class-word", metavar="WORD", help="what prompts say instead of the subject (default: its own, or person)"
    )
    listing.add_argument("--token", metavar="WORD", default="z", help="stands for the subject (default: z)")
    listing.add_argument(
        "--tokens", type=int, metavar="N", default=16, help="vectors of the subject: token and commas (default: 16)"
    )
    listing.add_argument("--out", metavar="FILE", help="file to write (default: standard output)")
    listing.set_defaults(run=prompts)

    photos = commands.add_parser(
        "references",
        parents=[common],
        help="what a face pack makes of the reference photos of each subject",
        description="A table: photos with a face, the detector's median score on them, and the mean cosine between photos "
        "of the subject and to those of the others.",
    )
    photos.add_argument("folder", metavar="FOLDER", help="one sub-folder of photos per subject")
    photos.add_argument(
        "--pack", required=True, metavar="PACK", help="insightface model pack: folder or package://..."
    )
    photos.add_argument("--recognition-file", metavar="NAME", help="file in the pack to embed with, if it has several")
    photos.set_defaults(run=references)

    pair = commands.add_parser(
        "compare",
        parents=[common],
        help="two methods of an evaluation against each other, category by category",
        description="A Markdown table of the differences between two methods, paired by subject, with intervals by "
        "bootstrap over subjects; and which part of what AGAINST differs from the baseline METHOD keeps or gives back.",
    )
    pair.add_argument(
        "folder", metavar="EVALUATION", help="folder or URI of an evaluation: scores.parquet, summary.json"
    )
    pair.add_argument("method", metavar="METHOD")
    pair.add_argument("against", metavar="AGAINST")
    pair.add_argument("--columns", nargs="+", metavar="COLUMN", help="(default: text, composition and gaps)")
    pair.add_argument("--baseline", metavar="NAME", help="(default: the class-word method of the evaluation)")
    pair.add_argument(
        "--confidence", type=float, default=0.95, metavar="SHARE", help="of the intervals (default: %(default)s)"
    )
    pair.set_defaults(run=compare)

    card = commands.add_parser(
        "add-evaluation",
        parents=[common],
        help="put what an evaluation found into the model card of an encoder",
        description="The section takes the place of the one that the card has.",
    )
    card.add_argument("encoder", metavar="ENCODER", help="folder of the encoder; its README.md is the card")
    card.add_argument("section", metavar="SECTION", help="report/model-card-NAME.md of an evaluation of this encoder")
    card.set_defaults(run=add_evaluation)


def prompts(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from adaface.evaluation.prompts import load_prompts

    if arguments.tokens < 1:
        raise ValueError(f"--tokens must be at least 1, not {arguments.tokens}")
    images = 4
    if arguments.config:
        from ray_jobs.config_file import load
        from ray_jobs.evaluate_config import EvaluateConfig

        config = load(EvaluateConfig, arguments.config, arguments.overrides)
        images, chosen = config.generation.images_per_prompt, config.prompts
        found = load_prompts(chosen.sets, chosen.limit, chosen.placement)
        people = _people(config, arguments.subject, ask=arguments.class_word is None)
    else:
        if arguments.overrides:
            raise ValueError("--set changes a configuration; give one with --config")
        found = load_prompts(arguments.sets)
        people = {arguments.subject or "subject": "person"}
    lines = [
        line
        for subject, word in people.items()
        for line in _lines(found, subject, arguments.class_word or word, arguments.token, arguments.tokens, images)
    ]
    text = "".join(f"{line}\n" for line in lines)
    if arguments.out:
        Path(arguments.out).expanduser().write_text(text, encoding="utf-8")
        print(f"{arguments.out}: {len(lines):,} prompts")
    else:
        print(text, end="")
    return 0


def references(arguments: argparse.Namespace) -> int:
    """The same networks and code as in an evaluation with the defaults of `measures.faces`."""
    from adaface.evaluation.config import MeasuresConfig, SubjectsConfig
    from adaface.evaluation.features import FeatureReader
    from adaface.evaluation.reference_faces import reference_faces
    from adaface.evaluation.references import reference_features
    from adaface.evaluation.subjects import find_subjects
    from adaface.perception.config import PerceptionConfig

    faces = PerceptionConfig(pack=arguments.pack, recognition_file=arguments.recognition_file)
    measures = MeasuresConfig(faces=faces)
    read = reference_features(find_subjects(SubjectsConfig(folder=arguments.folder)), FeatureReader(measures))
    print(f"{'subject':<24} {'faces':>8} {'detector':>9} {'same':>7} {'others':>7}")
    for name, own in reference_faces(read, measures.first).items():
        doubt = "  may be no person" if own.may_be_no_person else "" if own.found else "  no face"
        seen = f"{own.found}/{own.photos}"
        score, same, others = (
            "-" if value != value else f"{value:.3f}" for value in (own.score, own.same, own.others)
        )
        print(f"{name:<24} {seen:>8} {score:>9} {same:>7} {others:>7}{doubt}")
    return 0


def compare(arguments: argparse.Namespace) -> int:
    from adaface.evaluation.comparison import compare_methods, table
    from data_pipeline.storage import Storage

    out = Storage(arguments.folder)
    if missing := [name for name in ("summary.json", "scores.parquet") if not out.exists(name)]:
        raise ValueError(f"{arguments.folder} holds no finished evaluation: {' and '.join(missing)} missing")
    summary, scores = out.read_json("summary.json"), out.read_table("scores.parquet")
    usual = [name for name in summary["columns"] if name in ("clip_text", "composition") or name.startswith("gap_")]
    columns = arguments.columns or usual
    if unknown := [name for name in columns if name not in summary["columns"]]:
        raise ValueError(f"the scores have no column {', '.join(unknown)}; they have {', '.join(summary['columns'])}")
    baseline = arguments.baseline or summary["baseline"]
    if baseline in (arguments.method, arguments.against):
        baseline = None
    compared = compare_methods(
        {name: scores[name].to_numpy(zero_copy_only=False) for name in scores.column_names},
        arguments.method,
        arguments.against,
        columns=columns,
        baseline=baseline,
        bootstrap=summary["draws"]["draws"],
        seed=summary["draws"]["seed"],
        confidence=arguments.confidence,
    )
    for line in table(compared, arguments.method, arguments.against, baseline):
        print(line)
    return 0


def add_evaluation(arguments: argparse.Namespace) -> int:
    """Refuses a section about other weights than those beside the card."""
    import os
    from pathlib import Path

    from adaface.encoder.files import CARD, WEIGHTS
    from adaface.evaluation.report.card import judged, with_section
    from adaface.perception.pack import sha256

    folder = Path(arguments.encoder).expanduser()
    section = Path(arguments.section).expanduser().read_text(encoding="utf-8")
    card = folder / CARD
    whole = with_section(card.read_text(encoding="utf-8") if card.exists() else "", section)
    if sha256(folder / WEIGHTS) not in judged(section):
        raise ValueError(f"{arguments.section} is about other weights than {folder / WEIGHTS}; evaluate this encoder")
    fresh = card.with_name(f"{CARD}.new")
    fresh.write_text(whole, encoding="utf-8")
    os.replace(fresh, card)
    print(f"{card}: the evaluation is in it")
    return 0


def _people(config: EvaluationConfig, name: str | None, *, ask: bool) -> dict[str, str]:
    """Class word by name; only the subject that is asked for.

    Args:
        ask: take the class words that nobody said from the face pack, as the run does.
    """
    from adaface.evaluation.subjects import find_subjects

    chosen = config.subjects if name is None else config.subjects.model_copy(update={"names": [name]})
    subjects = find_subjects(chosen)
    if ask and (unknown := [subject for subject in subjects if subject.type_from == "nobody"]):
        told = _from_the_pack(config, unknown)
        subjects = [told.get(subject.name, subject) for subject in subjects]
    return {subject.name: subject.class_word for subject in subjects}


def _from_the_pack(config: EvaluationConfig, subjects: Sequence[Subject]) -> dict[str, Subject]:
    """The subjects with their class words; without a pack that can be opened a warning says that the run's differ."""
    import sys

    from adaface.evaluation.subjects import check_faces
    from adaface.perception.faces import FaceAnalyser

    try:
        return {subject.name: subject for subject in check_faces(subjects, FaceAnalyser(config.measures.faces))}
    except (ValueError, OSError, ImportError) as error:
        names = ", ".join(subject.name for subject in subjects[:3]) + (", ..." if len(subjects) > 3 else "")
        print(
            f"warning: nobody says the class word of {names}, and the face pack cannot be asked, so prompts say 'person' "
            f"where those of the run may not: {error}",
            file=sys.stderr,
        )
        return {}


def _lines(found: Sequence[Prompt], subject: str, word: str, token: str, tokens: int, images: int) -> Iterator[str]:
    """The original's five columns; its folders are cut to 80 characters, ours end in the id of the prompt."""
    vectors = token + ", " * (tokens - 1)
    for prompt in found:
        columns = (
            str(images),
            f"{subject}-{prompt.id}",
            " ".join(prompt.of(vectors).split()),
            prompt.of(word),
            prompt.of(word.split()[-1]),
        )
        yield "\t".join(columns)
