"""What a browser would find in a page."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Tags with their attributes, texts by section, and tags that do not close.

    Attributes:
        tags: (name, attributes, section).
        texts: section -> its words.
        classes: class -> texts of the elements that have it.
    """

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None], str]] = []
        self.problems: list[str] = []
        self._texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self._section = ""
        self.feed(html)
        self.close()
        self.problems += [f"<{tag}> is never closed" for tag in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag == "section":
            self._section = attributes["id"] or ""
        self.tags.append((tag, attributes, self._section))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs), self._section))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.problems.append(f"</{tag}> at {self.getpos()} closes nothing")

    def handle_data(self, data: str) -> None:
        self._texts.setdefault(self._section, []).append(data)

    def text(self, section: str | None = None) -> str:
        """The words of a section ("" is the head), or of all."""
        parts = (
            self._texts.get(section, []) if section is not None else [p for own in self._texts.values() for p in own]
        )
        return re.sub(r"\s+", " ", " ".join(parts)).strip()

    def images(self, section: str) -> int:
        return sum(tag == "img" and where == section for tag, _, where in self.tags)

    def count(self, name: str, section: str | None = None) -> int:
        """Elements of a class."""
        return sum(
            name in (attributes.get("class") or "").split()
            for _, attributes, where in self.tags
            if section is None or where == section
        )
