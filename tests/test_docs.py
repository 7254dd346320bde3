"""What README and docs/ say to type exists: links, files, modules, commands with their options, settings."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from flows.cli import _parser
from ray_jobs.config import DatasetConfig, JobConfig
from ray_jobs.config_file import load
from ray_jobs.distill_config import DistillConfig
from ray_jobs.evaluate_config import EvaluateConfig

PROJECT = Path(__file__).resolve().parents[1]
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
CONFIGS: dict[str, type[JobConfig]] = {
    "build-dataset": DatasetConfig,
    "distill": DistillConfig,
    "evaluate": EvaluateConfig,
}
THEIRS = ("configs/stable-diffusion/", "configs/mine.yaml")  # the original's own; a user's own
_LINK = re.compile(r"\]\((?!https?:)([^)\s]*)\)")


def _anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def _commands(page: Path) -> Iterator[list[str]]:
    """Words of every command line in a block of code, comments and what a shell would do with the output cut off."""
    blocks = [line[4:] for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("    ")]
    for line in re.sub(r"\\\n\s*", " ", "\n".join(blocks)).splitlines():
        if re.match(r"\s*(adaface|python -m [\w.]+) ", line):
            try:
                words = shlex.split(line, comments=True)
            except ValueError:  # prose in a quoted block
                continue
            yield words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    lost = []
    for link in _LINK.findall(page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            lost.append(link)
    assert not lost


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_of_configuration_are_there(page: Path) -> None:
    said = set(re.findall(r"(?<![\w/])configs/[\w/.-]+\.yaml", page.read_text(encoding="utf-8")))
    ours = [name for name in sorted(said) if not name.startswith(THEIRS)]
    assert [name for name in ours if not (PROJECT / name).is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_have_these_options(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = []
    for words in _commands(page):
        if words[0] == "python":
            if words[2].partition(".")[0] in ("adaface", "ray_jobs", "flows") and not importlib.util.find_spec(
                words[2]
            ):
                wrong.append(words)
            continue
        if "..." in words:
            continue
        try:
            _parser().parse_args(words[1:])
        except SystemExit as end:
            if end.code:
                wrong.append([*words, capsys.readouterr().err])
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_exist(page: Path) -> None:
    wrong = []
    for words in _commands(page):
        job = words[2].rpartition(".")[2].replace("_", "-") if words[0] == "python" else words[1]
        given = dict(pairwise(words))
        config = given.get("--config", "")
        if job not in CONFIGS or not config.startswith("configs/"):
            continue
        changes = [text for word, text in pairwise(words) if word == "--set"]
        try:
            load(CONFIGS[job], PROJECT / config, changes)
        except ValueError as error:
            wrong.append([*words, str(error)])
    assert not wrong


def test_there_is_something_to_look_at() -> None:
    found = [words for page in PAGES for words in _commands(page)]
    assert len(found) > 40 and sum("--set" in words for words in found) > 5
