"""``artistmind status``: what runs, how it feels, what it costs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from cli.graph import ServeApi
from cli.processes import family, owned_processes, resident_mb
from cli.ray_env import ensure_token
from cli.state import RunState, load_state
from core.errors import SetupError
from core.settings import Settings

if TYPE_CHECKING:
    import psutil
    from rich.table import Table


@dataclass(frozen=True, slots=True)
class ComponentStatus:
    """One row of the table."""

    name: str
    state: str
    pid: int | None = None
    url: str | None = None
    memory_mb: int | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """Everything of one installation. ``health`` is the gateway's own answer."""

    healthy: bool
    components: tuple[ComponentStatus, ...]
    health: dict[str, Any] | None
    memory_mb: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def read_health(url: str) -> dict[str, Any] | None:
    """The answer of ``GET /health``, whatever its status; ``None`` when nothing sensible answers."""
    import httpx

    try:
        answer = httpx.get(f"{url}/health", timeout=5, trust_env=False).json()
    except (httpx.HTTPError, ValueError):
        return None
    return answer if isinstance(answer, dict) else None


def is_healthy(url: str) -> bool:
    answer = read_health(url)
    return answer is not None and answer.get("status") == "ok"


def collect(settings: Settings) -> Status:
    """Look at every part; asks nothing that could block for long."""
    state = load_state(settings.home_dir)
    health = read_health(state.graph.url) if state.graph else None
    components = (*_servers(state, settings), *_ray(state), *_graph(state, settings, health))
    healthy = bool(health and health.get("status") == "ok") and all(c.state != "down" for c in components)
    return Status(healthy, components, health, resident_mb(owned_processes(settings.home_dir, state.daemons)))


def _servers(state: RunState, settings: Settings) -> list[ComponentStatus]:
    import psutil

    from memory.endpoints import read_servers

    if settings.database_url and settings.redis_url:
        return [ComponentStatus("postgres", "external"), ComponentStatus("redis", "external")]
    supervisor = family(state.servers) if state.servers else []
    servers = read_servers(settings.home_dir) if supervisor else None
    rows = [_row("servers", supervisor[:1])]
    for name, pid in (servers.pids if servers else {}).items():
        process = psutil.Process(pid) if psutil.pid_exists(pid) else None
        members = [process, *process.children(recursive=True)] if process else []
        rows.append(_row(name, members))
    return rows


def _ray(state: RunState) -> list[ComponentStatus]:
    if state.ray is None:
        return [ComponentStatus("ray", "down")]
    return [_row("ray", family(state.ray.process), state.ray.dashboard_url)]


def _row(name: str, members: list[psutil.Process], url: str | None = None) -> ComponentStatus:
    if not members:
        return ComponentStatus(name, "down")
    return ComponentStatus(name, "running", members[0].pid, url, resident_mb(members))


def _graph(state: RunState, settings: Settings, health: dict[str, Any] | None) -> list[ComponentStatus]:
    if state.graph is None or state.ray is None:
        return [ComponentStatus("graph", "down")]
    answer = str(health.get("status", "unknown")) if health else "down"
    return [ComponentStatus("graph", answer, url=state.graph.url), *_deployments(state, settings)]


def _deployments(state: RunState, settings: Settings) -> list[ComponentStatus]:
    assert state.ray is not None
    api = ServeApi(state.ray.dashboard_url, ensure_token(settings.home_dir))
    try:
        deployments = api.state().deployments
    except SetupError:
        return []
    finally:
        api.close()
    return [
        ComponentStatus(
            f"  {deployment.name}",
            f"{deployment.status.lower()} {deployment.running}/{deployment.wanted}",
            deployment.pids[0] if deployment.pids else None,
            memory_mb=_memory_of(deployment.pids),
        )
        for deployment in deployments
    ]


def _memory_of(pids: tuple[int, ...]) -> int | None:
    import psutil

    processes = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    return resident_mb(processes) if processes else None


def as_table(status: Status) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("component", "state", "pid", "memory", "url"):
        table.add_column(heading, justify="right" if heading in ("pid", "memory") else "left")
    for row in status.components:
        memory = f"{row.memory_mb:,} MB" if row.memory_mb is not None else ""
        table.add_row(row.name, row.state, str(row.pid or ""), memory, row.url or "")
    table.add_row("total", "healthy" if status.healthy else "not healthy", "", f"{status.memory_mb:,} MB", "")
    return table
