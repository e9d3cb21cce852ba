"""What all models of a card share: strictness, and the bounds of the free-form data that they carry along."""

from __future__ import annotations

import json
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, JsonValue

MAX_EXTENSION_CHARS = 6 * 1024 * 1024
"""Of one ``extensions`` field, written as JSON: room for what the largest importable card brings along."""

MAX_EXTENSION_DEPTH = 40
"""Nested lists and objects: what an imported card may have, and a few levels to put it away in."""


class CardModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def depth(value: JsonValue) -> int:
    """How many lists and objects stand inside each other; 0 for a plain value."""
    deepest, level = 0, [value]
    while level := [item for item in level if isinstance(item, list | dict)]:
        deepest += 1
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
    return deepest


def _bounded(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if depth(value) > MAX_EXTENSION_DEPTH:
        raise ValueError(f"is nested deeper than {MAX_EXTENSION_DEPTH} levels")
    if len(json.dumps(value, ensure_ascii=False)) > MAX_EXTENSION_CHARS:
        raise ValueError(f"holds more than {MAX_EXTENSION_CHARS} characters")
    return value


Extensions = Annotated[dict[str, JsonValue], AfterValidator(_bounded)]
"""Data of other programs: kept as it is, never read into a prompt."""
