"""Commands about evaluations."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adaface.evaluation.config import SubjectsConfig
    from adaface.evaluation.prompts import Prompt

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
        "--set", nargs="+", metavar="SET", dest="sets", help="live, community, grid, or files of prompts"
    )
    listing.add_argument("--subject", metavar="NAME", help="one subject of the configuration; with --set: its name")
    listing.add_argument(
        "--class-word", metavar="WORD", help="what prompts say instead of the subject (default: its own, or person)"
    )
    listing.add_argument("--token", metavar="WORD", default="z", help="stands for the subject (default: z)")
    listing.add_argument(
        "--tokens", type=int, metavar="N", default=16, help="vectors of the subject: token and commas (default: 16)"
    )
    listing.add_argument("--out", metavar="FILE", help="file to write (default: standard output)")
    listing.set_defaults(run=prompts)


def prompts(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from adaface.evaluation.prompts import load_prompts

    if arguments.tokens < 1:
        raise ValueError(f"--tokens must be at least 1, not {arguments.tokens}")
    images = 4
    if arguments.config:
        from ray_jobs.config_file import load
        from ray_jobs.evaluate_config import EvaluateConfig

        config = load(EvaluateConfig, arguments.config)
        images, chosen = config.generation.images_per_prompt, config.prompts
        found = load_prompts(chosen.sets, chosen.limit, chosen.placement)
        people = _people(config.subjects, arguments.subject)
    else:
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


def _people(config: SubjectsConfig, name: str | None) -> dict[str, str]:
    """Class word by name; only the subject that is asked for."""
    from adaface.evaluation.subjects import find_subjects

    if name is not None:
        config = config.model_copy(update={"names": [name]})
    return {subject.name: subject.class_word for subject in find_subjects(config)}


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
