"""The embedded servers' supervisor: starts them, restarts what dies, stops them with itself.

    python -m memory.embedded --home .artistmind      run until SIGTERM or SIGINT
    endpoints(settings)                               addresses, for every other process
    with running_servers(home) as servers: ...        for tests

``<home>/embedded.json`` keeps ports and passwords for good; ``<home>/servers.json`` is there while the
servers run. Both can be read by their owner only. An address that is set in the settings is used as it is:
its server is neither started nor watched.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import IO, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from core.errors import SetupError
from core.logs import get_logger, setup_logging
from core.settings import Settings
from memory.embedded_postgres import EmbeddedPostgres
from memory.embedded_process import (
    adopt_orphans,
    choose_port,
    disk_errors,
    ensure_home,
    last_line,
    port_is_free,
    reap_orphans,
    write_private,
)
from memory.embedded_redis import EmbeddedRedis
from memory.embedded_runner import running_servers, start_supervisor, stop_supervisor, wait_until_ready
from memory.endpoints import (
    SERVERS_FILE,
    Endpoints,
    RunningServers,
    endpoints,
    read_servers,
    with_driver,
)

__all__ = [
    "Endpoints",
    "RunningServers",
    "Supervisor",
    "endpoints",
    "main",
    "read_servers",
    "running_servers",
    "start_supervisor",
    "stop_supervisor",
    "wait_until_ready",
]

_START_TIMEOUT_S = 60.0
_POLL_S = 0.1
_LONGEST_PAUSE_S = 1.0


class EmbeddedServer(Protocol):
    """What the supervisor needs of a server."""

    name: str
    log: Path
    port: int

    @property
    def url(self) -> str: ...

    def prepare(self) -> None: ...

    def clear_leftovers(self) -> None: ...

    def spawn(self) -> subprocess.Popen[bytes]: ...

    def answers(self) -> bool: ...

    def stop(self, process: subprocess.Popen[bytes]) -> None: ...


class ServerAddresses(BaseModel):
    """Ports and passwords, chosen once so that clients find the servers where they were."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    postgres_port: int
    """Loopback port of PostgreSQL."""
    postgres_password: str
    """Of its only role."""
    redis_port: int
    """Loopback port of Redis."""
    redis_password: str
    """Of its default user."""

    @staticmethod
    def chosen() -> ServerAddresses:
        return ServerAddresses(
            postgres_port=choose_port(),
            postgres_password=secrets.token_hex(24),
            redis_port=choose_port(),
            redis_password=secrets.token_hex(24),
        )


class _Watched:
    """One server and its present process."""

    def __init__(self, server: EmbeddedServer) -> None:
        self.server = server
        self.process: subprocess.Popen[bytes] | None = None
        self.failures = 0
        self.try_again_at = 0.0

    def has_died(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def pause_after_failure(self) -> None:
        self.failures += 1
        pause = min(_LONGEST_PAUSE_S, 0.1 * 2.0**self.failures)
        self.try_again_at = time.monotonic() + pause


class Supervisor:
    """Runs the servers whose address the settings leave open, under ``settings.home_dir``."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._home = settings.home_dir
        self._stopping = Event()
        self._log = get_logger("embedded")
        self._watched: list[_Watched] = []
        self._addresses: ServerAddresses | None = None
        self._addresses_are_new = False

    def request_stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        """Start, watch until asked to stop, stop.

        Raises:
            SetupError: a server cannot be started; none is left running.
        """
        ensure_home(self._home)
        with _only_one(self._home):
            (self._home / SERVERS_FILE).unlink(missing_ok=True)
            adopt_orphans()
            try:
                self._start_all()
                while not self._stopping.wait(_POLL_S):
                    self._restart_the_dead()
                    self._reap()
            finally:
                self._stop_all()

    def _start_all(self) -> None:
        servers = self._servers()
        for server in servers:
            server.prepare()
            server.clear_leftovers()
        if self._addresses_are_new:
            self._after_lost_addresses(servers)
        for server in servers:
            watched = _Watched(server)
            self._watched.append(watched)
            self._start(watched)
        self._publish()
        self._log.info("servers_ready", servers=[server.name for server in servers])

    def _servers(self) -> list[EmbeddedServer]:
        self._addresses_are_new = not (self._home / "embedded.json").exists()
        addresses = self._load_addresses()
        logs = self._settings.log_dir
        servers: list[EmbeddedServer] = []
        if self._settings.database_url is None:
            servers.append(
                EmbeddedPostgres(
                    self._settings.postgres_dir,
                    logs / "postgres.log",
                    addresses.postgres_port,
                    addresses.postgres_password,
                )
            )
        if self._settings.redis_url is None:
            servers.append(
                EmbeddedRedis(
                    self._settings.redis_dir,
                    logs / "redis.log",
                    addresses.redis_port,
                    addresses.redis_password,
                )
            )
        return servers

    def _load_addresses(self) -> ServerAddresses:
        path = self._home / "embedded.json"
        try:
            self._addresses = ServerAddresses.model_validate_json(path.read_text())
        except FileNotFoundError:
            self._addresses = ServerAddresses.chosen()
            write_private(path, self._addresses.model_dump_json(indent=2))
        except (OSError, ValidationError) as error:
            raise SetupError(f"{path} cannot be read: delete it, and new ports and passwords are chosen") from error
        return self._addresses

    def _after_lost_addresses(self, servers: list[EmbeddedServer]) -> None:
        for server in servers:
            if isinstance(server, EmbeddedPostgres) and not server.is_fresh:
                server.reset_password()

    def _start(self, watched: _Watched) -> None:
        """Start one server and wait until it answers."""
        self._keep_port_free(watched.server)
        watched.process = watched.server.spawn()
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not watched.server.answers():
            if watched.process.poll() is not None:
                raise SetupError(f"{watched.server.name} does not start: {_last_words(watched.server)}")
            if time.monotonic() > deadline:
                raise SetupError(f"{watched.server.name} does not answer: {_last_words(watched.server)}")
            if self._stopping.wait(_POLL_S):
                return

    def _keep_port_free(self, server: EmbeddedServer) -> None:
        """Keep the server's port; take another one for good when somebody else has it."""
        if port_is_free(server.port):
            return
        assert self._addresses is not None
        taken, server.port = server.port, choose_port()
        self._addresses = self._addresses.model_copy(update={f"{server.name}_port": server.port})
        write_private(self._home / "embedded.json", self._addresses.model_dump_json(indent=2))
        self._log.warning("port_was_taken", server=server.name, port=taken, new_port=server.port)

    def _restart_the_dead(self) -> None:
        for watched in self._watched:
            if watched.has_died() and time.monotonic() >= watched.try_again_at:
                self._restart(watched)

    def _restart(self, watched: _Watched) -> None:
        status = watched.process.returncode if watched.process else None
        self._log.warning("server_died", server=watched.server.name, status=status)
        started = time.monotonic()
        try:
            watched.server.clear_leftovers()
            self._start(watched)
        except (SetupError, OSError) as error:
            watched.pause_after_failure()
            self._log.error("server_restart_failed", server=watched.server.name, reason=str(error))
            return
        watched.failures = 0
        self._publish()
        took = round(time.monotonic() - started, 2)
        self._log.info("server_restarted", server=watched.server.name, seconds=took)

    def _reap(self) -> None:
        reap_orphans({watched.process.pid for watched in self._watched if watched.process is not None})

    def _publish(self) -> None:
        urls = {watched.server.name: watched.server.url for watched in self._watched}
        pids = {w.server.name: w.process.pid for w in self._watched if w.process is not None}
        database_url = self._settings.database_url or urls["postgres"]
        running = RunningServers(
            database_url=with_driver(database_url),
            redis_url=self._settings.redis_url or urls["redis"],
            supervisor_pid=os.getpid(),
            pids=pids,
        )
        write_private(self._home / SERVERS_FILE, running.to_json())

    def _stop_all(self) -> None:
        with suppress(OSError):
            (self._home / SERVERS_FILE).unlink(missing_ok=True)
        for watched in self._watched:
            if watched.process is not None:
                watched.server.stop(watched.process)
                self._log.info("server_stopped", server=watched.server.name)
        self._reap()


def _last_words(server: EmbeddedServer) -> str:
    return f"{last_line(server.log)}; see {server.log}"


@contextmanager
def _only_one(home: Path) -> Iterator[IO[str]]:
    """Hold the home's lock: two supervisors on one data directory would kill each other's servers."""
    with disk_errors(home), (home / "supervisor.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise SetupError(f"the servers under {home} already run (supervisor {lock.read().strip()})") from error
        lock.seek(0)
        lock.truncate()
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield lock


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of ``python -m memory.embedded``."""
    parser = argparse.ArgumentParser(prog="python -m memory.embedded", description=__doc__.partition("\n")[0])
    parser.add_argument("--home", type=Path, help="where the data lives (default: ARTISTMIND_HOME or .artistmind)")
    home: Path | None = parser.parse_args(arguments).home
    settings = Settings()
    if home is not None:
        settings = settings.model_copy(update={"home": home.absolute()})
    setup_logging(settings)
    supervisor = Supervisor(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.request_stop())
    try:
        supervisor.run()
    except SetupError as error:
        print(f"artistmind: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
