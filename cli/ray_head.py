"""A Ray head of our own: free ports, its own directory, ended by process and never by name."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cli.graph import ServeApi
from cli.processes import is_alive, spawn
from cli.ray_env import choose_ports, ensure_token, head_env, ray_directory
from cli.state import RayHead, RayPorts
from core.errors import SetupError
from core.settings import PROJECT_ROOT, Settings

OBJECT_STORE_BYTES = 200 * 2**20
"""Replies are small and models are not passed through the object store."""

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def logical_cpus(asked: int | None) -> int:
    """CPUs that Ray may hand out: bookkeeping, so a small machine gets enough for every deployment."""
    return asked or max(8, os.cpu_count() or 1)


def start_ray(settings: Settings, cpus: int) -> RayHead:
    """Start the head; it does not answer yet."""
    directory = ray_directory(settings.home_dir)
    _clear_old_sessions(directory)
    ensure_token(settings.home_dir)
    ports = choose_ports()
    environment = head_env(settings, ports, directory, os.environ)
    command = ray_command(ports, directory, cpus)
    process = spawn(command, ray_log(settings), environment, PROJECT_ROOT)
    return RayHead(process=process, ports=ports, directory=directory)


def ray_log(settings: Settings) -> Path:
    return settings.log_dir / "ray.log"


def ray_command(ports: RayPorts, directory: Path, cpus: int) -> list[str]:
    return [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
        *("--node-ip-address", "127.0.0.1", "--port", str(ports.gcs)),
        *("--dashboard-host", "127.0.0.1", "--dashboard-port", str(ports.dashboard)),
        *("--ray-client-server-port", str(ports.client)),
        *("--dashboard-agent-listen-port", str(ports.agent)),
        *("--temp-dir", str(directory), "--num-cpus", str(cpus)),
        *("--object-store-memory", str(OBJECT_STORE_BYTES)),
        *("--no-monitor", "--disable-usage-stats"),  # the monitor scales nodes: there is one
        *("--log-style", "record", "--log-color", "false"),
    ]


def wait_until_ready(head: RayHead, settings: Settings, deadline: float, say: Callable[[str], None]) -> None:
    """Wait for the dashboard's REST API.

    Raises:
        SetupError: the head ended, or the deadline passed.
    """
    api = ServeApi(head.dashboard_url, ensure_token(settings.home_dir))
    say("head node, then the dashboard's API")
    try:
        while not api.answers():
            if not is_alive(head.process):
                raise SetupError(f"Ray does not start: {_reason(ray_log(settings))}; see {ray_log(settings)}")
            if time.monotonic() > deadline:
                raise SetupError(f"Ray was not ready in time: see {ray_log(settings)}")
            time.sleep(0.2)
    finally:
        api.close()


def _reason(log: Path) -> str:
    with suppress(OSError):
        lines = [_COLOUR.sub("", line).strip() for line in log.read_text(errors="replace").splitlines()]
        return next((line for line in reversed(lines) if line), "it said nothing")
    return "it said nothing"


def _clear_old_sessions(directory: Path) -> None:
    """Logs of earlier runs go when a new one begins, so that they can be read until then."""
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
