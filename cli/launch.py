"""``artistmind up``: one stage after the other; what a failed start has started is stopped again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli import graph, ray_head, servers
from cli.health import is_healthy
from cli.preflight import (
    check_application,
    check_disk,
    check_memory,
    check_packages,
    check_port,
    check_python,
)
from cli.processes import is_alive, sweep
from cli.progress import Progress
from cli.ray_env import ensure_token
from cli.state import DeployedGraph, RunState, clear_state, load_state, project_version, save_state
from cli.teardown import SWEEP_GRACE_S, stop_ray, stop_servers
from core.errors import SetupError
from core.settings import Settings


@dataclass(frozen=True, slots=True)
class LaunchOptions:
    """What the flags of ``up`` say."""

    config: Path
    cpus: int | None = None
    timeout_s: float = 600
    self_check: bool = True


class Launch:
    """One run of ``up``. Knows what was running before, so that a failure undoes only its own part."""

    def __init__(self, settings: Settings, options: LaunchOptions, progress: Progress) -> None:
        self._settings = settings
        self._home = settings.home_dir
        self._options = options
        self._progress = progress
        self._deadline = time.monotonic() + options.timeout_s
        self._state = load_state(self._home)
        self._undo = ExitStack()
        self._undo.callback(self._forget_stopped)

    def run(self) -> DeployedGraph:
        """Start what is missing; returns the graph that answers.

        Raises:
            ArtistMindError: a stage failed; what this run started has been stopped.
        """
        with self._undone_on_failure():
            config = self._preflight()
            self._start_servers()
            self._migrate()
            self._start_ray()
            deployed = self._deploy(config)
            if self._options.self_check:
                self._check(deployed)
        return deployed

    def keep_port(self) -> None:
        """No port was asked for: a repair keeps the one it runs on."""
        if self._state.graph is not None and self._ray_runs():
            self._settings = self._settings.model_copy(update={"port": self._state.graph.port})

    def already_runs(self) -> DeployedGraph | None:
        """The running graph, when all of it is alive, healthy and of this configuration."""
        deployed = self._state.graph
        if deployed is None or not self._options.config.exists():
            return None
        alive = self._servers_run() and self._ray_runs()
        same = deployed.digest == graph.digest(self._options.config)
        return deployed if alive and same and is_healthy(deployed.url) else None

    def _preflight(self) -> dict[str, Any]:
        with self._progress.stage("preflight"):
            check_python()
            check_packages()
            check_disk(self._home)
            config = graph.read_config(self._options.config)
            check_application(config, self._settings)
            self._check_running_port()
            if not self._ray_runs():
                stop_ray(self._state, self._home)  # what a killed Ray left behind may hold the port
                check_memory()
                check_port(self._settings.port)
            self._progress.say(f"{len(config['applications'])} application(s) in {self._options.config.name}")
        return config

    def _check_running_port(self) -> None:
        deployed = self._state.graph
        if deployed and self._ray_runs() and deployed.port != self._settings.port:
            raise SetupError(f"it already runs on port {deployed.port}: `artistmind down` first to change the port")

    def _servers_run(self) -> bool:
        if self._settings.database_url and self._settings.redis_url:
            return True
        from memory.endpoints import read_servers

        return is_alive(self._state.servers) and read_servers(self._home) is not None

    def _ray_runs(self) -> bool:
        return self._state.ray is not None and is_alive(self._state.ray.process)

    def _start_servers(self) -> None:
        with self._progress.stage("embedded servers"):
            if self._servers_run():
                self._progress.say("already running")
                return
            stop_servers(self._state)
            self._undo.callback(lambda: stop_servers(self._state))
            self._save(servers=servers.start_servers(self._settings))
            self._progress.say("PostgreSQL and Redis")
            assert self._state.servers is not None
            servers.wait_until_ready(self._state.servers, self._settings, self._deadline)

    def _migrate(self) -> None:
        from memory.endpoints import endpoints
        from memory.migrate import upgrade

        with self._progress.stage("migrations"):
            self._progress.say("schema of the database")
            upgrade(endpoints(self._settings).database_url)

    def _start_ray(self) -> None:
        with self._progress.stage("Ray"):
            if self._state.ray is not None and self._ray_runs():
                self._progress.say("already running")
                return
            cpus = ray_head.logical_cpus(self._options.cpus)
            self._undo.callback(lambda: stop_ray(self._state, self._home))
            head = ray_head.start_ray(self._settings, cpus)
            self._save(ray=head, graph=None)
            ray_head.wait_until_ready(head, self._settings, self._deadline, self._progress.say)
            self._progress.say(f"{cpus} logical CPUs, dashboard {head.dashboard_url}")

    def _deploy(self, config: dict[str, Any]) -> DeployedGraph:
        head = self._state.ray
        assert head is not None
        with self._progress.stage("Serve graph"):
            api = graph.ServeApi(head.dashboard_url, ensure_token(self._home))
            try:
                self._progress.say("Serve's controller")
                api.deploy(graph.with_address(config, self._settings))
                deployed = DeployedGraph(
                    config=self._options.config,
                    digest=graph.digest(self._options.config),
                    host=self._settings.host,
                    port=self._settings.port,
                )
                self._save(graph=deployed)
                graph.wait_until_running(api, self._deadline, self._progress.say, lambda: is_alive(head.process))
                names = ", ".join(deployment.name for deployment in api.state().deployments)
                self._progress.say(names)
            finally:
                api.close()
        return deployed

    def _check(self, deployed: DeployedGraph) -> None:
        from cli.self_check import self_check

        with self._progress.stage("self-check"):
            self._progress.say("first reply")
            reply = self_check(deployed.url, self._deadline)
            self._progress.say(reply)

    def _save(self, **changes: Any) -> None:
        self._state = self._state.model_copy(update={"version": project_version(), **changes})
        save_state(self._home, self._state)

    @contextmanager
    def _undone_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            with interrupts_ignored():
                self._undo.close()
            raise

    def _forget_stopped(self) -> None:
        servers = self._state.servers if is_alive(self._state.servers) else None
        ray = self._state.ray if self._ray_runs() else None
        if servers is None and ray is None:
            sweep(self._home, self._state.daemons, SWEEP_GRACE_S)  # what was started in the instant of the interrupt
            clear_state(self._home)
            return
        self._state = RunState(
            version=self._state.version, servers=servers, ray=ray, graph=self._state.graph if ray else None
        )
        save_state(self._home, self._state)


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """A second Ctrl-C must not leave half of it running."""
    import signal

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
