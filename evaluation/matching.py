"""Whether a reply holds a string: blind to case, width, quotation marks and spaces, not to numbers and words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

REGEX_MARK = "re:"
"""Strings that begin with this are regular expressions over :func:`lowered` text."""

_IGNORED = re.compile(r"[「」『』《》〈〉〔〕【】()\[\]\"'`“”‘’´・·*_]")
_DASHES = re.compile(r"[‐‑‒–—―~〜∼]")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3})")
_WORD = re.compile(r"[a-z0-9]")


def lowered(text: str) -> str:
    """NFKC and lower case, one space at most."""
    return " ".join(unicodedata.normalize("NFKC", text).lower().split())


def normalise(text: str) -> str:
    """The form in which texts are compared: without quotation marks and brackets, one kind of dash."""
    bare = _IGNORED.sub("", _DASHES.sub("-", lowered(text)))
    return " ".join(_THOUSANDS.sub("", bare).split())


def squeezed(text: str) -> str:
    """Letters and digits alone, for telling whether two texts say the same."""
    return "".join(char for char in normalise(text) if char.isalnum())


def holds(text: str, wanted: str) -> bool:
    """Whether ``text`` holds ``wanted`` by the rules of the module's docstring."""
    if wanted.startswith(REGEX_MARK):
        return re.search(wanted.removeprefix(REGEX_MARK), lowered(text)) is not None
    return _pattern(wanted).search(normalise(text)) is not None


def held(text: str, wanted: Iterable[str]) -> list[str]:
    """Those of ``wanted`` that ``text`` holds."""
    return [one for one in wanted if holds(text, one)]


@lru_cache(maxsize=8192)
def _pattern(wanted: str) -> re.Pattern[str]:
    parts, words = normalise(wanted), ""
    if not parts:
        return re.compile(r"(?!)")
    previous = ""
    for char in parts:
        if char == " ":
            words += r"\s*"
        elif previous and not (_WORD.match(previous) and _WORD.match(char)) and previous != " ":
            words += r"\s*" + re.escape(char)
        else:
            words += re.escape(char)
        previous = char
    return re.compile(_edge_before(parts[0]) + words + _edge_after(parts[-1]))


def _edge_before(char: str) -> str:
    if char.isdigit():
        return r"(?<!\d)(?<!\d\.)"
    return r"(?<![a-z])" if _WORD.match(char) else ""


def _edge_after(char: str) -> str:
    if char.isdigit():
        return r"(?!\d)(?!\.\d)"
    return r"(?![a-z])" if _WORD.match(char) else ""
