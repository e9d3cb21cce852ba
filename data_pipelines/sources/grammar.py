"""Conversations composed offline by ``data_pipelines.grammar``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from core.errors import ConfigurationError
from data_pipelines.rows import Kind, Row, make_row


class Composer(Protocol):
    """``count`` conversations of a kind; row ``i`` depends on character, kind, seed and ``i`` alone."""

    def __call__(self, character: str, kind: str, count: int, seed: int) -> Sequence[Mapping[str, Any]]: ...


def shipped_composer() -> Composer:
    """The grammar of this project."""
    from data_pipelines.grammar import compose

    return compose


def composed(composer: Composer, character: str, kind: Kind, count: int, seed: int) -> list[Row]:
    """Rows without repeats; none when the character has nothing of that kind to compose from."""
    try:
        found = composer(character, kind, count, seed)
    except ConfigurationError:
        return []
    rows = (
        make_row(
            character_id=character,
            dataset_source="grammar",
            kind=kind,
            category=one["category"],
            messages=tuple(one["messages"]),
            style_tags=tuple(one["style_tags"]),
        )
        for one in found
    )
    return list({row.id: row for row in rows}.values())
