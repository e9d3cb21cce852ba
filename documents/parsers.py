"""From a file's bytes to a :class:`Document`, by its name or media type.

To add a format: write a reader ``(data, source, limits) -> Parsed`` and register it in ``_READERS``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, get_args

import yaml

from core.errors import TooLarge, Unprocessable, UnsupportedMedia
from documents.encoding import decode
from documents.limits import Limits
from documents.models import Document, Language
from documents.ocr import read_image
from documents.pdf import read_pdf
from documents.web import read_html
from documents.word import read_docx

DEFAULT_CATEGORY = "general"

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)\n---[ \t]*(?:\n|\Z)", re.DOTALL)
_FIRST_HEADING = re.compile(r"^#{1,6}[ \t]+(\S.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a reader found: the text and what the file says about itself."""

    text: str
    metadata: dict[str, str] = field(default_factory=dict)


Reader = Callable[[bytes, str, Limits], Parsed]


def parse(
    data: bytes,
    filename: str,
    media_type: str | None = None,
    category: str | None = None,
    limits: Limits | None = None,
) -> Document:
    """Read a file.

    Args:
        data: The file as it arrived.
        filename: Its name; the suffix decides the format, and the name is the document's source.
        media_type: Decides where the name has no known suffix.
        category: Wins over the category in the front matter.
        limits: What the file may cost.
    """
    limits = limits or Limits()
    source = PurePath(filename.replace("\\", "/")).name or "document"
    if len(data) > limits.max_bytes:
        raise TooLarge(f"{source} has {len(data)} bytes; {limits.max_bytes} are allowed. Split it.")
    parsed = _reader_for(source, media_type)(data, source, limits)
    if len(parsed.text) > limits.max_chars:
        raise TooLarge(f"{source} holds more than {limits.max_chars} characters. Split it.")
    if not parsed.text.strip():
        raise Unprocessable(f"{source} holds no text. Check that it is the right file.")
    return _document(parsed, source, category)


def supported_suffixes() -> tuple[str, ...]:
    return tuple(_READERS)


def _document(parsed: Parsed, source: str, category: str | None) -> Document:
    said = parsed.metadata
    heading = _FIRST_HEADING.search(parsed.text)
    title = said.get("title") or (heading.group(1).strip() if heading else "") or PurePath(source).stem
    language: Language | None = next((code for code in get_args(Language) if code == said.get("language")), None)
    return Document.of(
        text=parsed.text,
        title=title,
        category=category or said.get("category") or DEFAULT_CATEGORY,
        source=said.get("source") or source,
        language=language,
    )


def _reader_for(source: str, media_type: str | None) -> Reader:
    suffix = PurePath(source).suffix.lower()
    bare_type = (media_type or "").split(";")[0].strip().lower()
    reader = _READERS.get(suffix) or _READERS.get(_SUFFIX_OF_TYPE.get(bare_type, ""))
    if reader is None:
        known = ", ".join(_READERS)
        raise UnsupportedMedia(f"{source} is of a kind that cannot be read. Send one of {known}.")
    return reader


def _markdown(data: bytes, source: str, limits: Limits) -> Parsed:
    text = decode(data, source)
    match = _FRONT_MATTER.match(text)
    if match is None:
        return Parsed(text.strip())
    return Parsed(text[match.end() :].strip(), _metadata(match.group(1), source))


def _metadata(front_matter: str, source: str) -> dict[str, str]:
    try:
        loaded: Any = yaml.safe_load(front_matter)
    except yaml.YAMLError as error:
        raise Unprocessable(f"{source}: the front matter is not valid YAML ({error}). Correct it.") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise Unprocessable(f"{source}: the front matter must be `key: value` lines. Correct it.")
    return {str(key): str(value) for key, value in loaded.items() if value is not None}


def _text(data: bytes, source: str, limits: Limits) -> Parsed:
    return Parsed(decode(data, source).strip())


def _html(data: bytes, source: str, limits: Limits) -> Parsed:
    text, title = read_html(decode(data, source), limits.max_nesting)
    return Parsed(text, {"title": title})


def _pdf(data: bytes, source: str, limits: Limits) -> Parsed:
    text, title = read_pdf(data, source, limits)
    return Parsed(text, {"title": title})


def _docx(data: bytes, source: str, limits: Limits) -> Parsed:
    text, title = read_docx(data, source, limits)
    return Parsed(text, {"title": title})


def _image(data: bytes, source: str, limits: Limits) -> Parsed:
    return Parsed(read_image(data, source, limits))


_READERS: dict[str, Reader] = {
    ".md": _markdown,
    ".markdown": _markdown,
    ".txt": _text,
    ".html": _html,
    ".htm": _html,
    ".pdf": _pdf,
    ".docx": _docx,
    ".png": _image,
    ".jpg": _image,
    ".jpeg": _image,
    ".tif": _image,
    ".tiff": _image,
}
_SUFFIX_OF_TYPE = {
    "text/markdown": ".md",
    "text/plain": ".txt",
    "text/html": ".html",
    "application/xhtml+xml": ".html",
    "application/pdf": ".pdf",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/tiff": ".tif",
}
