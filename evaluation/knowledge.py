"""A character's documents by file name, as the facts files and the sets call them."""

from __future__ import annotations

from pathlib import Path

from core.settings import get_settings
from documents.knowledge import load_knowledge
from documents.models import Document


def cards_dir() -> Path:
    settings = get_settings()
    return settings.resolved(settings.cards_dir)


def documents_of(character: str) -> dict[str, Document]:
    """Documents by file name without ``.md``; a character may have none."""
    folder = cards_dir() / character / "knowledge"
    paths = sorted(folder.glob("*.md"))  # by path, as load_knowledge does: "a-b.md" comes before "a.md"
    if not paths:
        return {}
    return {path.stem: document for path, document in zip(paths, load_knowledge(folder), strict=True)}
