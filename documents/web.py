"""HTML to text: what a reader sees, with headings and lists in Markdown."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from core.errors import Unprocessable

_SKIPPED = {"script", "style", "noscript", "template", "svg", "head", "iframe", "object"}
_BLOCKS = {
    "p", "div", "section", "article", "main", "header", "footer", "aside", "nav", "ul", "ol", "table", "tr",
    "blockquote", "pre", "figure", "figcaption", "dl", "dt", "dd", "form", "fieldset", "hr", "body",
}  # fmt: skip
_VOID = {
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr",
}  # fmt: skip


class _Reader(HTMLParser):
    def __init__(self, max_nesting: int) -> None:
        super().__init__(convert_charrefs=True)
        self._max_nesting = max_nesting
        self._open: list[str] = []
        self._in_title = False
        self.title = ""
        self.parts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _VOID:
            self._open.append(tag)
            if len(self._open) > self._max_nesting:
                raise Unprocessable(f"The HTML is nested deeper than {self._max_nesting} elements. Flatten it.")
        self._in_title = tag == "title" and not self.title
        if re.fullmatch(r"h[1-6]", tag):
            self.parts.append("\n\n" + "#" * int(tag[1]) + " ")
        elif tag == "li":
            self.parts.append("\n- ")
        elif tag in ("td", "th"):
            self.parts.append(" | ")
        elif tag == "br":
            self.parts.append("\n")
        elif tag in _BLOCKS:
            self.parts.append("\n\n" if tag != "tr" else "\n")

    def handle_endtag(self, tag: str) -> None:
        self._in_title = False
        if tag in self._open:
            while self._open.pop() != tag:
                pass
        if tag in _BLOCKS - {"tr"} or re.fullmatch(r"h[1-6]", tag):
            self.parts.append("\n\n")

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data
        elif not _SKIPPED.intersection(self._open):
            self.parts.append(data if "pre" in self._open else re.sub(r"\s+", " ", data))


def read_html(html: str, max_nesting: int) -> tuple[str, str]:
    """Text and title of a page; scripts, styles and everything else that is not shown is left out."""
    reader = _Reader(max_nesting)
    reader.feed(html)
    reader.close()
    text = "".join(reader.parts).replace("\xa0", " ")
    text = re.sub(r"[ \t]*\n[ \t]*", "\n", text)
    text = re.sub(r"^\| ", "", text, flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", text).strip(), " ".join(reader.title.split())
