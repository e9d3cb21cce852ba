"""A supervisor as a subprocess of ours: started, awaited, stopped."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import SetupError
from core.settings import PROJECT_ROOT
from memory.embedded_process import ensure_home, last_line
from memory.endpoints import RunningServers, read_servers


@contextmanager
def running_servers(home: Path, timeout_s: float = 90.0) -> Iterator[RunningServers]:
    """Run a supervisor as a subprocess on ``home`` for the length of a block.

    Raises:
        SetupError: the servers did not start.
    """
    supervisor = start_supervisor(home)
    try:
        yield wait_until_ready(home, supervisor, timeout_s)
    finally:
        stop_supervisor(supervisor)


def start_supervisor(home: Path) -> subprocess.Popen[bytes]:
    """Start a supervisor in the background; its output goes to ``<home>/logs/supervisor.log``."""
    home = home.absolute()
    ensure_home(home)
    environment = os.environ | {"PYTHONPATH": str(PROJECT_ROOT), "ARTISTMIND_HOME": str(home)}
    with (home / "logs" / "supervisor.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "memory.embedded", "--home", str(home)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=PROJECT_ROOT,
            env=environment,
            start_new_session=True,
        )


def wait_until_ready(home: Path, supervisor: subprocess.Popen[bytes], timeout_s: float) -> RunningServers:
    """Wait until the supervisor has published its servers.

    Raises:
        SetupError: it gave up, or took longer than ``timeout_s``.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        servers = read_servers(home)
        if servers is not None and servers.supervisor_pid == supervisor.pid:
            return servers
        if supervisor.poll() is not None:
            raise SetupError(last_line(home / "logs" / "supervisor.log").removeprefix("artistmind: "))
        time.sleep(0.05)
    raise SetupError(f"the servers under {home} were not ready in {timeout_s:.0f} s")


def stop_supervisor(supervisor: subprocess.Popen[bytes]) -> None:
    """Stop a supervisor and, through it, its servers; returns when all are gone."""
    supervisor.terminate()
    try:
        supervisor.wait(45)
    except subprocess.TimeoutExpired:
        supervisor.kill()
        supervisor.wait(5)
