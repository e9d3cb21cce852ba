"""``artistmind logs``: finds the files behind a component's name, prints their ends, follows them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import IO

from cli.state import RunState
from core.errors import SetupError
from core.settings import Settings

_SERVERS = ("supervisor.log", "postgres.log", "redis.log")


def log_files(component: str, settings: Settings, state: RunState) -> list[Path]:
    """The files of ``servers``, ``postgres``, ``redis``, ``ray``, ``controller``, ``proxy`` or a deployment.

    Raises:
        SetupError: there are none.
    """
    found = [path for path in _candidates(component.lower(), settings, state) if path.is_file()]
    if not found:
        raise SetupError(f"no log of {component!r}: one of {', '.join(component_names(settings, state))}")
    return sorted(found, key=lambda path: path.stat().st_mtime)


def _candidates(component: str, settings: Settings, state: RunState) -> list[Path]:
    own = settings.log_dir
    if component == "servers":
        return [own / name for name in _SERVERS]
    if component == "ray":
        return [own / "ray.log"]
    direct = own / f"{component}.log"
    return [direct] if direct.is_file() else _serve_files(component, state)


def _serve_files(component: str, state: RunState) -> list[Path]:
    session = _session_logs(state)
    if session is None:
        return []
    serve = [path for path in (session / "serve").glob("*.log") if component == component_of(path)]
    return serve + [path for path in session.glob("worker-*") if component == actor_of(path)]


def _session_logs(state: RunState) -> Path | None:
    if state.ray is None:
        return None
    logs = state.ray.directory / "session_latest" / "logs"
    return logs if logs.is_dir() else None


def component_of(path: Path) -> str:
    """``replica_chat_Gateway_x1y2.log`` → ``gateway``; ``controller_123.log`` → ``controller``."""
    kind, *rest = path.stem.split("_")
    return rest[-2].lower() if kind == "replica" and len(rest) > 2 else kind.lower()


def actor_of(path: Path) -> str | None:
    """Whose output a worker's file holds: Ray heads it with ``:actor_name:ServeReplica:chat:Gateway``."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in islice(file, 5):
            if line.startswith(":actor_name:"):
                return line.strip().rpartition(":")[2].lower()
    return None


def component_names(settings: Settings, state: RunState) -> list[str]:
    session = _session_logs(state)
    serve = {component_of(path) for path in (session / "serve").glob("*.log")} if session else set()
    own = {path.stem for path in settings.log_dir.glob("*.log")} - {"supervisor"}
    return sorted({"servers", "ray"} | serve | own)


def tail(path: Path, lines: int) -> list[str]:
    with path.open(encoding="utf-8", errors="replace") as file:
        return [line.rstrip("\n") for line in deque(file, maxlen=lines)]


def follow(files: Sequence[Path], show: Callable[[str], None], pause_s: float = 0.3) -> None:
    """Print what is appended to any of the files, until interrupted."""
    opened = [path.open(encoding="utf-8", errors="replace") for path in files]
    try:
        for file in opened:
            file.seek(0, 2)
        while True:
            news = [_show_new(file, show) for file in opened]  # of every file, so not a generator
            if not any(news):
                time.sleep(pause_s)
    finally:
        for file in opened:
            file.close()


def _show_new(file: IO[str], show: Callable[[str], None]) -> bool:
    lines = file.readlines()
    for line in lines:
        show(line.rstrip("\n"))
    return bool(lines)
