"""The environment of our Ray, in one place: for the head (``artistmind up``) and for clients (``artistmind env``).

Authentication: Ray's token lies in ``<home>/ray_token`` and is named by ``RAY_AUTH_TOKEN_PATH``, so a token of
the user's own in ``~/.ray`` is neither read nor replaced. ``ray start``, drivers, ``ray job submit`` and Serve's REST
API all accept it there.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from cli.processes import owner_mark
from cli.state import RayHead, RayPorts
from core.errors import SetupError
from core.settings import PROJECT_ROOT, Settings
from memory.embedded_process import choose_port, write_private

_ANOTHER_CLUSTERS = (
    "RAY_ADDRESS",
    "RAY_API_SERVER_ADDRESS",
    "RAY_DASHBOARD_ADDRESS",
    "RAY_AUTH_TOKEN",
    "RAY_JOB_CONFIG_JSON_ENV_VAR",
    "RAY_NAMESPACE",
    "RAY_RUNTIME_ENV_HOOK",
    "RAY_START_HOOK",
)
"""May be set in the caller's shell and would lead our head astray."""

_SERVE = {
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
}
"""Two to three times the tokens per second of Ray's defaults; drivers need the same to talk to the graph."""

_DEFAULTS = {
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # one node: nowhere to drain to; it would only wait 30 s
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    "RAY_enable_worker_prestart": "0",  # idle workers cost 100 MB each
    "RAY_prestart_worker_first_driver": "0",
    "RAY_SERVE_HAPROXY_NBTHREAD": "2",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30",  # 5 s by default: too little on a machine that is busy
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "30",
    "RAY_worker_niceness": "0",  # 15 by default: the engine would wait for whatever else runs
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "WANDB_MODE": "offline",
}
"""Taken unless the caller's environment says otherwise."""


def ray_directory(home: Path) -> Path:
    """Where Ray keeps sockets and session logs: short, one per home, and nobody else's.

    Raises:
        SetupError: the directory belongs to another user.
    """
    name = hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:8]
    directory = Path(tempfile.gettempdir()) / f"am-{os.getuid()}-{name}"
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise SetupError(f"{directory} belongs to another user: set TMPDIR to a directory of your own")
    return directory


def token_path(home: Path) -> Path:
    return home / "ray_token"


def ensure_token(home: Path) -> str:
    """The cluster's token, made on first use and readable by its owner only."""
    path = token_path(home)
    if not path.exists() or not path.read_text().strip():
        write_private(path, secrets.token_hex(32))
    return path.read_text().strip()


def choose_ports() -> RayPorts:
    """Free ports, all different."""
    chosen: set[int] = set()
    while len(chosen) < len(RayPorts.model_fields):
        chosen.add(choose_port())
    return RayPorts(**dict(zip(RayPorts.model_fields, chosen, strict=True)))


def head_env(settings: Settings, ports: RayPorts, directory: Path, base: Mapping[str, str]) -> dict[str, str]:
    """The environment of ``ray start``, which every worker and replica inherits."""
    inherited = {name: value for name, value in base.items() if name not in _ANOTHER_CLUSTERS}
    return {
        **_DEFAULTS,
        **inherited,
        **_shared(settings, inherited),
        **_haproxy(ports, directory),
        **owner_mark(settings.home_dir),
        "RAY_USAGE_STATS_ENABLED": "0",
        "ARTISTMIND_HOST": settings.host,
        "ARTISTMIND_PORT": str(settings.port),
    }


def client_env(settings: Settings, head: RayHead, base: Mapping[str, str]) -> dict[str, str]:
    """What a shell needs so that ``ray job submit``, ``serve status`` and drivers find our cluster."""
    return {
        **_shared(settings, base),
        "RAY_ADDRESS": head.address,
        "RAY_API_SERVER_ADDRESS": head.dashboard_url,
        "RAY_DASHBOARD_ADDRESS": head.dashboard_url,
    }


def _shared(settings: Settings, base: Mapping[str, str]) -> dict[str, str]:
    return {
        **_SERVE,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_path(settings.home_dir)),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # the switch that keeps a node on the loopback address
        "ARTISTMIND_HOME": str(settings.home_dir),
        "PYTHONPATH": _prepended(str(PROJECT_ROOT), base.get("PYTHONPATH")),
        "PATH": _prepended(str(Path(sys.executable).parent), base.get("PATH")),
    }


def _haproxy(ports: RayPorts, directory: Path) -> dict[str, str]:
    files = directory / "hap"
    return {
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(files / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(files / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(files),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(files / "state"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports.haproxy_metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports.haproxy_stats),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(ports.fallback),
    }


def _prepended(entry: str, paths: str | None) -> str:
    rest = [path for path in (paths or "").split(os.pathsep) if path and path != entry]
    return os.pathsep.join([entry, *rest])
