"""The embedded servers as a daemon: their supervisor, started and waited for."""

from __future__ import annotations

import os
import sys
import time

from cli.processes import is_alive, owner_mark, spawn
from core.errors import SetupError
from core.settings import PROJECT_ROOT, Settings
from memory.embedded_process import ProcessRecord, last_line
from memory.endpoints import read_servers

_LOG = "supervisor.log"


def start_servers(settings: Settings) -> ProcessRecord:
    """Start the supervisor; nothing answers yet."""
    home = settings.home_dir
    environment = {**os.environ, **owner_mark(home), "PYTHONPATH": str(PROJECT_ROOT), "ARTISTMIND_HOME": str(home)}
    command = [sys.executable, "-m", "memory.embedded", "--home", str(home)]
    return spawn(command, settings.log_dir / _LOG, environment, PROJECT_ROOT)


def wait_until_ready(supervisor: ProcessRecord, settings: Settings, deadline: float) -> None:
    """Wait until the supervisor has published its servers.

    Raises:
        SetupError: it gave up, or the deadline passed.
    """
    log = settings.log_dir / _LOG
    while True:
        published = read_servers(settings.home_dir)
        if published is not None and published.supervisor_pid == supervisor.pid:
            return
        if not is_alive(supervisor):
            raise SetupError(last_line(log).removeprefix("artistmind: "))
        if time.monotonic() > deadline:
            raise SetupError(f"the embedded servers were not ready in time: see {log}")
        time.sleep(0.05)
