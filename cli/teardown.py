"""``artistmind down``: ends what was started for this home, and nothing else. Data stays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cli.graph import ServeApi
from cli.processes import family, is_alive, owned_processes, stop_family, sweep
from cli.ray_env import ensure_token
from cli.state import RunState, clear_state, load_state
from core.errors import SetupError

GRAPH_GRACE_S = 20.0
RAY_GRACE_S = 15.0
SERVERS_GRACE_S = 40.0
SWEEP_GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class Stopped:
    """How many processes of each part have ended."""

    ray: int
    servers: int
    others: int

    @property
    def total(self) -> int:
        return self.ray + self.servers + self.others


def bring_down(home: Path) -> Stopped:
    """Stop Serve, Ray and the embedded servers, in this order, so that nothing loses its store under it.

    Raises:
        SetupError: a process survived even SIGKILL.
    """
    state = load_state(home)
    stopped = Stopped(
        ray=stop_ray(state, home),
        servers=stop_servers(state),
        others=sweep(home, state.daemons, SWEEP_GRACE_S),
    )
    if left := owned_processes(home, state.daemons):
        raise SetupError(f"still running: pid {', '.join(str(process.pid) for process in left)}; state kept")
    clear_state(home)
    return stopped


def stop_ray(state: RunState, home: Path) -> int:
    """End the graph and Ray: politely while the head lives, then whatever of it is left."""
    head = state.ray
    if head is not None and is_alive(head.process) and state.graph is not None:
        api = ServeApi(head.dashboard_url, ensure_token(home))
        api.shut_down(GRAPH_GRACE_S)
        api.close()
    ended = stop_family(head.process if head else None, RAY_GRACE_S)
    return ended + _sweep_beside(state, home)


def _sweep_beside(state: RunState, home: Path) -> int:
    """Orphans of a Ray head that was killed; the embedded servers are not touched."""
    spared = {process.pid for process in family(state.servers)} if state.servers else set()
    return sweep(home, state.daemons, SWEEP_GRACE_S, spared)


def stop_servers(state: RunState) -> int:
    """End the supervisor, which ends PostgreSQL and Redis in order."""
    return stop_family(state.servers, SERVERS_GRACE_S)
