"""What runs, written down under ``home``: ``state.json``, and the lock that keeps two commands apart."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from core.errors import SetupError
from memory.embedded_process import ProcessRecord, disk_errors, write_private

STATE_FILE = "state.json"
LOCK_FILE = "up.lock"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RayPorts(_Model):
    """Every fixed port of the Ray head and of Serve's proxy, chosen free so that no other Ray is disturbed."""

    gcs: int
    """Where drivers and further nodes connect."""

    dashboard: int
    """Jobs, Serve's REST API, the dashboard."""

    client: int
    """Ray Client."""

    agent: int
    """The dashboard's agent on the node."""

    haproxy_metrics: int
    """HAProxy's Prometheus endpoint."""

    haproxy_stats: int
    """HAProxy's statistics page."""

    fallback: int
    """Serve's own proxy, behind HAProxy."""


class RayHead(_Model):
    """The Ray head that was started for this installation."""

    process: ProcessRecord
    """``ray start --block``: it ends the whole of Ray with itself."""

    ports: RayPorts
    """Chosen at the start."""

    directory: Path
    """Sockets and session logs; short, because Unix socket paths are limited to about 100 bytes."""

    @property
    def dashboard_url(self) -> str:
        return f"http://127.0.0.1:{self.ports.dashboard}"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.ports.gcs}"


class DeployedGraph(_Model):
    """The Serve configuration that was deployed."""

    config: Path
    """The YAML file."""

    digest: str
    """Hash of its contents: a changed file is deployed again."""

    host: str
    """Address it listens on."""

    port: int
    """Port of the HTTP gateway."""

    @property
    def url(self) -> str:
        host = "127.0.0.1" if self.host == "0.0.0.0" else self.host
        return f"http://{host}:{self.port}"


class RunState(_Model):
    """What ``artistmind up`` has started; a part that is ``None`` was not started, or was stopped."""

    version: str
    """Of this project, when it was started."""

    servers: ProcessRecord | None = None
    """The supervisor of the embedded servers."""

    ray: RayHead | None = None
    """The Ray head."""

    graph: DeployedGraph | None = None
    """Set once it was accepted by Serve."""

    @property
    def daemons(self) -> tuple[ProcessRecord | None, ...]:
        return (self.servers, self.ray.process if self.ray else None)


def project_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("artistmind")
    except PackageNotFoundError:
        return "unknown"


def load_state(home: Path) -> RunState:
    """The written state; an empty one when there is none or it cannot be read (the mark still finds ours)."""
    try:
        return RunState.model_validate_json((home / STATE_FILE).read_text())
    except (FileNotFoundError, NotADirectoryError, ValidationError):
        return RunState(version=project_version())


def save_state(home: Path, state: RunState) -> None:
    write_private(home / STATE_FILE, state.model_dump_json(indent=2))


def clear_state(home: Path) -> None:
    (home / STATE_FILE).unlink(missing_ok=True)


@contextmanager
def exclusive(home: Path) -> Iterator[None]:
    """Hold the installation's lock; the kernel gives it back should this process die.

    Raises:
        SetupError: another ``up`` or ``down`` holds it.
    """
    with disk_errors(home):
        home.mkdir(parents=True, exist_ok=True)
    with disk_errors(home), (home / LOCK_FILE).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise SetupError(
                f"another `artistmind up` or `down` is at work on {home} (pid {holder}): wait for it"
            ) from error
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield
