"""Conversations from elsewhere, and those of versions that a new one builds on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from data_pipelines.config import FileSource
from data_pipelines.rows import Row
from data_pipelines.sources.base import Collected, Line, hashes, json_lines, row_at, spoken_messages

CARRIED = ("timestamp", "consent_id", "style_tags", "safety_flags")
NO_CONSENT = "collected under a consent that is not live"

HasLiveConsent = Callable[[str], bool]
"""Whether a consent allows training now."""


def read_file(source: FileSource, path: Path, character: str, is_live: HasLiveConsent) -> Collected:
    """A JSON lines file. Lines of other characters and lines without a live consent are not taken in."""
    rows: list[Row] = []
    skipped: dict[str, int] = {}
    for line in json_lines(path):
        if reason := _not_ours(line.values, character, is_live):
            skipped[reason] = skipped.get(reason, 0) + 1
        else:
            rows.append(_row(source, path, character, line))
    return Collected(path.name, source.licence, rows, hashes(path), skipped)


def from_parent(name: str, licence: str, rows: Iterable[Row], is_live: HasLiveConsent) -> Collected:
    """The rows of an earlier version; what a fan has withdrawn since stays behind."""
    every = list(rows)
    kept = [row for row in every if row.consent_id is None or is_live(row.consent_id)]
    gone = len(every) - len(kept)
    return Collected(name, licence, kept, skipped={NO_CONSENT: gone} if gone else {})


def _not_ours(values: dict[str, Any], character: str, is_live: HasLiveConsent) -> str | None:
    if values.get("character_id", character) != character:
        return "another character's"
    consent = values.get("consent_id")
    return NO_CONSENT if consent is not None and not is_live(str(consent)) else None


def _row(source: FileSource, path: Path, character: str, line: Line) -> Row:
    values = {key: line.values[key] for key in CARRIED if line.values.get(key) is not None}
    return row_at(
        line.place,
        character_id=character,
        dataset_source=path.name,
        kind=line.values.get("kind", source.kind),
        category=line.values.get("category", source.category),
        messages=spoken_messages(line.values, line.place),
        **values,
    )
