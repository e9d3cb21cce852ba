"""A character's knowledge folder: Markdown files whose front matter names title, category and source."""

from __future__ import annotations

from pathlib import Path

from core.errors import ConfigurationError, RequestError
from documents.limits import Limits
from documents.models import Document
from documents.parsers import parse


def load_knowledge(folder: Path, limits: Limits | None = None) -> list[Document]:
    """All ``*.md`` files of ``folder``, by name."""
    if not folder.is_dir():
        raise ConfigurationError(f"{folder}: no such folder. Create it and put the character's *.md files there.")
    return [_load(path, limits) for path in sorted(folder.glob("*.md"))]


def _load(path: Path, limits: Limits | None) -> Document:
    try:
        return parse(path.read_bytes(), path.name, limits=limits)
    except RequestError as error:
        raise ConfigurationError(f"{path}: {error.message}") from error
