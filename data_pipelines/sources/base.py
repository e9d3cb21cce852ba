"""What every source gives, and reading JSON lines with errors that name the line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.errors import ConfigurationError
from core.settings import PROJECT_ROOT
from data_pipelines.rows import READS_CONTEXT, Row, Turn, make_row
from data_pipelines.stages.base import Dropped


@dataclass(frozen=True)
class Collected:
    """One source's rows and what the manifest says about it."""

    source: str
    licence: str
    rows: list[Row]
    files: dict[str, str] = field(default_factory=dict)
    """Path (as it may leave this machine) → SHA-256."""

    skipped: dict[str, int] = field(default_factory=dict)
    """What was not taken in, by reason."""

    dropped: list[Dropped] = field(default_factory=list)
    note: str = ""


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def portable(path: Path) -> str:
    """A path as it may be written into files that leave this machine."""
    whole = path.resolve()
    return whole.relative_to(PROJECT_ROOT).as_posix() if whole.is_relative_to(PROJECT_ROOT) else whole.name


def hashes(*paths: Path) -> dict[str, str]:
    """Portable path and hash of each file."""
    return {portable(path): file_hash(path) for path in paths}


@dataclass(frozen=True, slots=True)
class Line:
    """One JSON object of a file, and where it stands."""

    place: str
    values: dict[str, Any]


def json_lines(path: Path) -> Iterator[Line]:
    """The objects of a JSON lines file; a bad line is named."""
    try:
        with path.open(encoding="utf-8") as stream:
            for number, text in enumerate(stream, 1):
                if text.strip():
                    yield Line(f"{path}:{number}", _object(text, f"{path}:{number}"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read ({error})") from error


def _object(text: str, place: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"{place}: is no JSON ({error})") from error
    if not isinstance(values, dict):
        raise ConfigurationError(f"{place}: is no JSON object")
    return values


def row_at(place: str, **values: Any) -> Row:
    """A row; what is wrong with it is said with its place."""
    try:
        return make_row(**values)
    except (ValidationError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{place}: no conversation of our schema: {_first(error)}") from error


def _first(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return f"{type(error).__name__}: {error}"
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def spoken_messages(values: Mapping[str, Any], place: str) -> tuple[Turn, ...]:
    """The ``messages`` of an object without a leading system prompt: training puts its own before them."""
    messages = values.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ConfigurationError(f'{place}: holds no "messages"')
    try:
        turns = tuple(Turn.model_validate({"role": one["role"], "content": one["content"]}) for one in messages)
    except (ValidationError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{place}: a message is no {{role, content}}: {_first(error)}") from error
    opens_with_prompt = turns[0].role == "system" and READS_CONTEXT not in (values.get("style_tags") or ())
    return turns[1:] if opens_with_prompt and len(turns) > 1 else turns
