"""The page as a whole: complete, self-contained, safe, of bounded size, the same every time."""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import re
import shutil
import tomllib
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from data_pipeline.config import DataConfig
from data_pipeline.reasons import REASONS
from data_pipeline.report import build_report, write_report
from data_pipeline.report.page import IDENTITY_ROWS
from data_pipeline.report.quantities import REASON_KEYS
from data_pipeline.report.wording import with_code, without_credentials, write_bytes, write_percent

VOID = {"meta", "img", "input", "br", "rect", "line", "link"}


class Page(HTMLParser):
    """What a browser would find in the page."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.problems: list[str] = []
        self.text: list[str] = []
        self.examples: Counter[str] = Counter()
        self.sections: list[str] = []
        self._open: list[str] = []
        self._reason = ""
        self.feed(html)
        self.close()
        self.problems += [f"<{tag}> is never closed" for tag in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "article":
            self._reason = attributes["data-reason"] or ""
            self.sections.append(self._reason)
        if "example" in (attributes.get("class") or "").split():
            self.examples[self._reason] += 1

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.problems.append(f"</{tag}> at {self.getpos()} closes nothing")

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text))


@pytest.fixture(scope="module")
def html(dataset: Path) -> str:
    return build_report(str(dataset)).decode("utf-8")


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_well_formed(page: Page) -> None:
    assert page.problems == []


def test_needs_no_other_file(page: Page, html: str) -> None:
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        for name in ("src", "srcset", "poster", "data", "action", "xlink:href"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, name)
        assert (attributes.get("href") or "#").startswith("#"), (tag, attributes)
        assert not any(name.startswith("on") or name == "style" for name in attributes), (tag, attributes)
    assert "@import" not in html
    assert "url(" not in html


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


def test_names_are_escaped(page: Page, html: str) -> None:
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert" in html
    assert "CC-BY-4.0 &lt;free&gt;" in html
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not any(tag in ("b>", "free") for tag, _ in page.tags)


def test_counts_are_those_of_the_tables(dataset: Path, page: Page, html: str) -> None:
    selection = pq.read_table(dataset / "selection.parquet")
    accepted = sum(selection["accepted"].to_pylist())
    assert f"{len(selection)} images found, {accepted} accepted" in page.words
    reasons = selection["reasons"].to_pylist()
    for reason, images in Counter(name for names in reasons for name in names).items():
        only = sum(names == [reason] for names in reasons)
        row = re.search(rf'<tr><td><a href="#reason-{reason}">.*?</tr>', html, re.DOTALL)
        assert row, reason
        assert re.findall(r'<td class="number">([^<]*)</td>', row[0]) == [
            f"{images:,}",
            write_percent(images / len(selection)),
            f"{only:,}",
        ]
    # Every histogram of a value that all images have counts every image once.
    chart = re.search(
        r'aria-label="Own identity: (\d+) accepted and (\d+) rejected images">(.*?)</svg>', html, re.DOTALL
    )
    assert chart
    assert (int(chart[1]), int(chart[2])) == (accepted, len(selection) - accepted)
    bins = re.findall(r"<title>[^<]*: ([\d,]+) accepted, ([\d,]+) rejected</title>", chart[3])
    assert [sum(int(pair[side]) for pair in bins) for side in (0, 1)] == [accepted, len(selection) - accepted]


def test_every_reason_has_a_section_with_examples(dataset: Path, page: Page) -> None:
    found = Counter(
        name for names in pq.read_table(dataset / "selection.parquet")["reasons"].to_pylist() for name in names
    )
    assert page.sections == [reason for reason in REASONS if reason in found]
    assert set(page.sections) == set(REASONS)
    assert {reason: min(12, images) for reason, images in found.items()} == dict(page.examples)


def test_every_rule_of_the_configuration_is_shown() -> None:
    """A rule that is added to DataConfig must be added here too."""
    shown = {(key, reason) for reason, keys in REASON_KEYS.items() for key, _ in keys}
    for name, field in DataConfig.model_fields.items():
        for reason in re.findall(r"-> (\w+)", field.description or ""):
            assert (name, reason) in shown


def test_thresholds_are_drawn(html: str) -> None:
    for label in (
        "min_det_score",
        "min_face 64",
        "max_yaw ±60°",
        "min_parts 10",
        "max_parts 17",
        "min_identity_similarity 0.65",
    ):
        assert re.search(rf'<text class="rule"[^>]*>{label}', html), label
    assert "min_embedding_norm" not in "".join(re.findall(r'<text class="rule".*?</text>', html))


def test_equal_input_gives_equal_bytes(dataset: Path, html: str) -> None:
    assert build_report(str(dataset)) == html.encode()


def test_written_into_the_dataset(dataset: Path, html: str) -> None:
    where = write_report(str(dataset))
    assert Path(where) == dataset / "report" / "index.html"
    assert Path(where).read_text("utf-8") == html


def test_size_does_not_grow_with_the_dataset(write_dataset: Callable[..., Path], tmp_path: Path) -> None:
    few = "blurry", "identity_outlier"
    small = build_report(str(write_dataset(tmp_path / "small", images=200, reasons=few)))
    large = build_report(str(write_dataset(tmp_path / "large", images=4000, identities=900, reasons=few, runs=60)))
    assert b"The 500 with the most accepted images; 400 more" in large
    assert b"40 earlier runs" in large
    rows = large.count(b'<td class="name">photos/person') / 2 - small.count(b'<td class="name">photos/person') / 2
    assert rows == IDENTITY_ROWS - 9
    assert len(large) - len(small) < 700 * rows + 40_000


def test_montage_shows_masks_on_demand(page: Page) -> None:
    layers = Counter(attributes.get("class") for tag, attributes in page.tags if tag == "img")
    assert layers["layer layer-mask"] == layers["layer layer-parts"] == 48
    switches = [attributes["id"] for tag, attributes in page.tags if tag == "input"]
    assert switches == ["montage-picture", "montage-mask", "montage-parts"]


def test_nothing_accepted(write_dataset: Callable[..., Path], tmp_path: Path) -> None:
    page = Page(build_report(str(write_dataset(tmp_path / "none", images=40, reject_all=True))).decode())
    assert page.problems == []
    assert "No image was accepted, so there are no shards." in page.words
    assert "no shards ." in page.words or "no shards." in page.words
    assert not any("layer" in (attributes.get("class") or "") for _, attributes in page.tags)


def test_nothing_rejected_without_parser(write_dataset: Callable[..., Path], tmp_path: Path) -> None:
    out = write_dataset(tmp_path / "plain", images=30, reasons=(), parser=False)
    page = Page(build_report(str(out)).decode())
    assert page.problems == []
    assert "Nothing was rejected." in page.words
    assert "No face parser is configured" in page.words
    assert "No duplicates." in page.words
    assert page.sections == []
    assert "Classes seen by the parser" not in page.words


def test_flat_source_and_no_runs(write_dataset: Callable[..., Path], tmp_path: Path) -> None:
    out = write_dataset(tmp_path / "flat", images=30, flat=True, runs=0, reasons=("blurry", "no_face", "decode_error"))
    page = Page(build_report(str(out)).decode())
    assert page.problems == []
    assert "No identities are known" in page.words
    assert "No run has been recorded yet." in page.words
    assert "Own identity" not in page.words


def test_empty_dataset(write_dataset: Callable[..., Path], tmp_path: Path) -> None:
    page = Page(build_report(str(write_dataset(tmp_path / "empty", images=0, runs=0))).decode())
    assert page.problems == []
    assert "The sources hold no images." in page.words


def test_photos_that_are_gone_leave_placeholders(write_dataset: Callable[..., Path], tmp_path: Path) -> None:
    out = write_dataset(tmp_path / "moved", images=60)
    shutil.rmtree(tmp_path / "moved-photos")
    page = Page(build_report(str(out)).decode())
    assert page.problems == []
    assert "the file is no longer there" in page.words
    assert not any(tag == "img" for tag, _ in page.tags)


def test_unfinished_dataset_is_refused(write_dataset: Callable[..., Path], tmp_path: Path) -> None:
    out = write_dataset(tmp_path / "cut", images=10)
    (out / "selection.parquet").unlink()
    (out / "dataset.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no dataset\.json, selection\.parquet: finish the build"):
        build_report(str(out))


def test_tables_of_different_builds_are_refused(write_dataset: Callable[..., Path], tmp_path: Path) -> None:
    out, other = (write_dataset(tmp_path / name, images=images) for name, images in (("one", 20), ("two", 25)))
    shutil.copy(other / "selection.parquet", out / "selection.parquet")
    with pytest.raises(ValueError, match="list different images"):
        build_report(str(out))


def test_manifest_that_disagrees_is_pointed_out(write_dataset: Callable[..., Path], tmp_path: Path) -> None:
    out = write_dataset(tmp_path / "stale", images=20)
    text = (out / "dataset.json").read_text()
    (out / "dataset.json").write_text(text.replace('"found": 20', '"found": 21'))
    assert "dataset.json counts 21 found" in Page(build_report(str(out)).decode()).words


def test_keys_of_object_stores_stay_out(write_dataset: Callable[..., Path], tmp_path: Path) -> None:
    out = write_dataset(tmp_path / "keys", images=10)
    text = (out / "config.yaml").read_text()
    (out / "config.yaml").write_text(
        text.replace("models/pack", "s3://AKIA123:hunter2@bucket/pack?secret_key=hunter3")
    )
    html = build_report(str(out)).decode()
    assert "bucket/pack" in html
    assert "hunter" not in html
    assert "AKIA123" not in html


def test_every_file_of_the_page_is_packaged(project: Path) -> None:
    patterns = tomllib.loads((project / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["*"]
    for file in (project / "data_pipeline" / "report").iterdir():
        if file.is_file() and file.suffix not in (".py", ".pyc"):
            assert any(fnmatch.fnmatch(file.name, pattern) for pattern in patterns), (
                f"{file.name} is not in {patterns}"
            )


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (999, "999 bytes"), (23_400_000, "23.4 MB"), (4_200_000_000_000, "4.2 TB")]
)
def test_sizes(size: int, text: str) -> None:
    assert write_bytes(size) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0%"), (1, "100%"), (0.0001, "<0.1%"), (0.99999, ">99.9%"), (0.125, "12.5%")]
)
def test_shares(share: float, text: str) -> None:
    assert write_percent(share) == text


def test_code_in_texts_is_escaped_first() -> None:
    assert with_code("see `max_<yaw>` & more") == "see <code>max_&lt;yaw&gt;</code> &amp; more"


def test_paths_without_credentials_are_left_alone() -> None:
    assert without_credentials("/data/a@b/c.jpg") == "/data/a@b/c.jpg"
    assert (
        without_credentials("s3://bucket/x?endpoint_override=host:9000") == "s3://bucket/x?endpoint_override=host:9000"
    )
