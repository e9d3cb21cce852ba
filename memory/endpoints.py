"""Where PostgreSQL and Redis answer. Light: every process imports it, and it starts nothing."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from core.errors import SetupError
from core.settings import Settings

SERVERS_FILE = "servers.json"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Addresses with credentials: never log them."""

    database_url: str
    redis_url: str


@dataclass(frozen=True, slots=True)
class RunningServers:
    """What the supervisor wrote down when everything answered."""

    database_url: str
    redis_url: str
    supervisor_pid: int
    pids: dict[str, int] = field(default_factory=dict)

    @property
    def endpoints(self) -> Endpoints:
        return Endpoints(self.database_url, self.redis_url)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2)


def read_servers(home: Path) -> RunningServers | None:
    """What runs under ``home``, or ``None`` when nothing was started (or was stopped) there."""
    try:
        text = (home / SERVERS_FILE).read_text()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return RunningServers(**json.loads(text))


def endpoints(settings: Settings) -> Endpoints:
    """Addresses from the settings; what they leave open is taken from the embedded servers.

    Raises:
        SetupError: an address is needed and no embedded server was started.
    """
    database_url, redis_url = settings.database_url, settings.redis_url
    if database_url is None or redis_url is None:
        servers = read_servers(settings.home_dir)
        if servers is None:
            raise SetupError(f"no embedded servers run under {settings.home_dir}: start them with `artistmind up`")
        database_url = database_url or servers.database_url
        redis_url = redis_url or servers.redis_url
    return Endpoints(with_driver(database_url), redis_url)


def with_driver(database_url: str) -> str:
    """``postgres://`` and ``postgresql://`` as SQLAlchemy wants them for psycopg 3."""
    scheme, separator, rest = database_url.partition("://")
    return f"postgresql+psycopg://{rest}" if separator and scheme in ("postgres", "postgresql") else database_url
