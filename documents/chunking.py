"""Documents cut into passages: at headings first, then paragraphs, sentences, words, characters.

Nothing is lost: the pieces' own parts, joined, are the text. A piece also repeats the end of the one before
it (the overlap), except at the start of a section, where there is nothing to continue.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from pydantic import BaseModel, ConfigDict, Field, model_validator

from documents.models import Chunk, Document, content_id

LengthFunction = Callable[[str], int]

_HEADING = re.compile(r"^#{1,6}[ \t]+\S.*$", re.MULTILINE)
_LEVELS = (
    re.compile(r"\n[ \t]*\n+"),
    re.compile(r"\n|(?<=[.!?…])[ \t]+|(?<=[。！？])"),
    re.compile(r"\s+"),
)
_WORD_START = re.compile(r"(?<=[\s。、])\S")


class ChunkConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(default=512, ge=1)
    """Longest chunk, overlap included, in the unit of the length function."""

    overlap: int = Field(default=64, ge=0)
    """How much of the chunk before is repeated, at most."""

    @model_validator(mode="after")
    def _overlap_fits(self) -> ChunkConfig:
        if self.overlap * 2 > self.size:
            raise ValueError("overlap must be at most half of size")
        return self


@dataclass(frozen=True, slots=True)
class Piece:
    """``text[start:end]`` is the piece's own part; ``text[lead:start]`` repeats the piece before."""

    lead: int
    start: int
    end: int


def chunk(document: Document, config: ChunkConfig | None = None, length: LengthFunction = len) -> list[Chunk]:
    """The passages of a document, blank ones left out."""
    pieces = split(document.text, config or ChunkConfig(), length)
    texts = [document.text[piece.lead : piece.end].strip() for piece in pieces]
    return [
        Chunk(
            id=content_id(document.id, str(position), text),
            document_id=document.id,
            text=text,
            title=document.title,
            category=document.category,
            source=document.source,
            position=position,
        )
        for position, text in enumerate(filter(None, texts))
    ]


def split(text: str, config: ChunkConfig, length: LengthFunction = len) -> list[Piece]:
    """Pieces that cover ``text`` without gaps, in order."""
    return [
        piece
        for start, end in _sections(text)
        for piece in _pack(text, start, list(_units(text, start, end, config, length)), config, length)
    ]


def _sections(text: str) -> Iterator[tuple[int, int]]:
    """Spans that begin with a heading; a heading without text of its own stays with the next one."""
    start = 0
    headings = list(_HEADING.finditer(text))
    for previous, heading in zip([None, *headings], headings, strict=False):
        body = text[previous.end() if previous else 0 : heading.start()]
        if body.strip():
            yield start, heading.start()
            start = heading.start()
    if start < len(text):
        yield start, len(text)


def _units(
    text: str, start: int, end: int, config: ChunkConfig, length: LengthFunction, level: int = 0
) -> Iterator[tuple[int, int]]:
    """Spans no longer than a piece's own part may be, cut at the coarsest level that does it."""
    if length(text[start:end]) <= config.size - config.overlap or end - start <= 1:
        yield start, end
        return
    if level == len(_LEVELS):
        middle = (start + end) // 2
        cuts = [start, middle, end]
    else:
        inner = [match.end() for match in _LEVELS[level].finditer(text, start, end)]
        cuts = [start, *(cut for cut in inner if start < cut < end), end]
        level += 1
    for left, right in pairwise(cuts):
        yield from _units(text, left, right, config, length, level)


def _pack(
    text: str, section: int, units: list[tuple[int, int]], config: ChunkConfig, length: LengthFunction
) -> Iterator[Piece]:
    """Fill pieces with as many units as fit."""
    lead = start = end = section
    for _, unit_end in units:
        if end > start and length(text[lead:unit_end]) > config.size:
            yield Piece(lead, start, end)
            lead, start = _lead(text, section, end, config, length), end
            if length(text[lead:unit_end]) > config.size:
                lead = start
        end = unit_end
    yield Piece(lead, start, end)


def _lead(text: str, section: int, start: int, config: ChunkConfig, length: LengthFunction) -> int:
    """Where the overlap before ``start`` begins: as far back as allowed, at a word if there is one."""
    if config.overlap == 0:
        return start
    earliest = bisect_left(
        range(section, start), True, key=lambda position: length(text[position:start]) <= config.overlap
    )
    word = _WORD_START.search(text, section + earliest, start)
    return word.start() if word else section + earliest
