"""What parsing and chunking give back. Ids are content hashes, in the shape of a UUID for the vector store."""

from __future__ import annotations

import hashlib
import re
import uuid
from dataclasses import dataclass
from typing import Literal

Language = Literal["ko", "ja", "en", "und"]


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file as plain text with Markdown headings. ``source`` is its file name or address."""

    id: str
    title: str
    category: str
    source: str
    text: str
    language: Language

    @staticmethod
    def of(text: str, title: str, category: str, source: str, language: Language | None = None) -> Document:
        """A document with its id and, unless it is given, its language."""
        document_id = content_id(title, category, source, text)
        return Document(document_id, title, category, source, text, language or language_of(text))


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage of a document; ``position`` counts from 0 within it."""

    id: str
    document_id: str
    text: str
    title: str
    category: str
    source: str
    position: int


def content_id(*parts: str) -> str:
    """A stable id of these texts."""
    digest = hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
    return str(uuid.UUID(hex=digest[:32]))


def language_of(text: str) -> Language:
    """The main language by script; ``und`` when there are no letters we know."""
    sample = text[:20_000]
    hangul = len(re.findall(r"[가-힣]", sample))
    kana = len(re.findall(r"[\u3041-\u30ff]", sample))
    latin = len(re.findall(r"[A-Za-z]+", sample))
    if not hangul and not kana and not latin:
        return "und"
    if kana > hangul and kana * 2 > latin:
        return "ja"
    return "ko" if hangul * 2 > latin else "en"
