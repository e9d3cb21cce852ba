"""Cross-cutting settings: addresses, storage roots, log level.

Order: defaults < environment (``ARTISTMIND_…``). An address that is not set means that the embedded server
is started under ``home``. Each package owns its own configuration model beside its code.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT_ROOT = Path(__file__).resolve().parent.parent


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="ARTISTMIND_", frozen=True, extra="forbid")

    home: Path = Path(".artistmind")
    """Where the embedded servers, logs and run state live; relative to the project's root."""

    models_dir: Path = Path("models")
    """Where model names without a scheme are looked up before they are taken for hub names."""

    cards_dir: Path = Path("personas/cards")
    """One folder per character."""

    adapters_dir: Path | None = None
    """Where new adapters are published; unset: ``<home>/adapters``. Shipped ones are read as well."""

    database_url: str | None = None
    """``postgresql+psycopg://…``; unset: the embedded PostgreSQL."""

    redis_url: str | None = None
    """``redis://…``; unset: the embedded Redis."""

    qdrant_url: str | None = None
    """``http://…``; unset: Qdrant's local mode under ``home``."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    log_format: Literal["json", "console"] = "json"

    host: str = "127.0.0.1"
    """Address the HTTP gateway listens on. Loopback unless keys are required."""

    port: int = Field(default=8000, ge=1, le=65535)

    def resolved(self, path: Path) -> Path:
        """``path`` taken from the project's root unless it is absolute."""
        return path if path.is_absolute() else PROJECT_ROOT / path

    @property
    def home_dir(self) -> Path:
        return self.resolved(self.home)

    @property
    def postgres_dir(self) -> Path:
        return self.home_dir / "postgres"

    @property
    def redis_dir(self) -> Path:
        return self.home_dir / "redis"

    @property
    def qdrant_dir(self) -> Path:
        return self.home_dir / "qdrant"

    @property
    def log_dir(self) -> Path:
        return self.home_dir / "logs"

    @property
    def adapter_roots(self) -> tuple[Path, Path]:
        """Where adapters are published, then where the shipped ones lie."""
        own = self.resolved(self.adapters_dir) if self.adapters_dir else self.home_dir / "adapters"
        return own, self.resolved(self.models_dir) / "adapters"

    def model_path(self, name: str) -> str:
        """A model by name or path: ours under ``models_dir``, a local directory, or a hub name as it is."""
        ours = self.resolved(self.models_dir) / name
        local = self.resolved(Path(name))
        if ours.is_dir():
            return str(ours)
        return str(local) if local.is_dir() else name


@lru_cache
def get_settings() -> Settings:
    """The process's settings, read from the environment on first use."""
    return Settings()
