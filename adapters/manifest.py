"""What is known about one adapter version: where it comes from and what it scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.errors import ConfigurationError

MANIFEST_NAME = "manifest.json"


class AdapterManifest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    persona: str
    version: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    base_model: str
    """Name under ``models/`` or hub id of the base that it was trained on."""

    base_revision: str
    """Content hash (ours) or commit (hub) of the base."""

    tokenizer_revision: str
    dataset: str
    """Version of the data set, or the command that made it."""

    dataset_hash: str
    code_revision: str
    seed: int
    arguments: dict[str, Any]
    metrics: dict[str, float]
    files: dict[str, str]
    """File name → SHA-256."""

    created_at: str


def read_manifest(folder: Path) -> AdapterManifest:
    """The manifest of one version's folder; ``ConfigurationError`` names what is wrong with it."""
    path = folder / MANIFEST_NAME
    try:
        return AdapterManifest.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read; the adapter was not published whole") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigurationError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
