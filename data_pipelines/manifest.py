"""``manifest.json``: what a data set version holds and where it comes from. Written last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.errors import ConfigurationError
from data_pipelines.config import VERSION
from data_pipelines.stages.base import StageCount

MANIFEST_NAME = "manifest.json"


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Shard(Frozen):
    file: str
    """Path inside the version's folder."""

    rows: int
    sha256: str


class SplitRecord(Frozen):
    rows: int
    shards: tuple[Shard, ...]


class SourceRecord(Frozen):
    source: str
    licence: str
    rows_in: int
    """Rows that the source gave."""

    rows_out: int
    """Rows of it in the version."""

    files: dict[str, str] = {}
    """Path → SHA-256."""

    skipped: dict[str, int] = {}
    """What was not taken in, by reason."""

    note: str = ""


class DatasetManifest(Frozen):
    schema_version: int = 1
    character: str
    version: str = Field(pattern=VERSION)
    content_hash: str
    """SHA-256 over the canonical rows: the same on every machine and with any number of workers."""

    splits: dict[str, SplitRecord]
    kinds: dict[str, int]
    """Rows by kind."""

    categories: dict[str, dict[str, int]]
    """Rows by kind and category."""

    stages: tuple[StageCount, ...]
    shortfall: dict[str, int]
    """Rows that were wanted and could not be had, by kind."""

    sources: tuple[SourceRecord, ...]
    licences: tuple[str, ...]
    consents: tuple[str, ...]
    """Ids of the consents under which rows were collected."""

    parents: dict[str, str]
    """Versions whose rows were taken over → their content hash."""

    code_revision: str
    tools: dict[str, str]
    seed: int
    settings: dict[str, Any]
    created_at: str

    @property
    def name(self) -> str:
        return f"{self.character}@{self.version}"

    @property
    def rows(self) -> int:
        return sum(split.rows for split in self.splits.values())


def read_manifest(folder: Path) -> DatasetManifest:
    """The manifest of one version's folder; ``ConfigurationError`` names what is wrong with it."""
    path = folder / MANIFEST_NAME
    try:
        return DatasetManifest.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read; the version was not written whole") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigurationError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
