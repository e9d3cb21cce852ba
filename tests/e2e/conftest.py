"""One running graph for all end-to-end tests: real engine, real stores, spoken to over HTTP.

The graph is started by the product's own ``up`` on the first test that needs it and stopped by its own ``down``,
in a home and on ports of its own. ``ARTISTMIND_E2E_URL`` names a graph that runs already (and ``ARTISTMIND_HOME``
its home), for a quick try: tests that stop parts of it are skipped then.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, TypeVar

import httpx
import psutil
import pytest

from cli.processes import owned_processes
from cli.state import RunState, load_state
from core.contracts import Message
from core.settings import PROJECT_ROOT, get_settings
from memory.embedded_process import choose_port
from memory.endpoints import RunningServers, read_servers
from memory.short_term import RedisMemory

T = TypeVar("T")

START_TIMEOUT_S = 600
TEST_TIMEOUT_S = 180


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.engine)
            # The start of the graph has its own limit and belongs to no test.
            item.add_marker(pytest.mark.timeout(TEST_TIMEOUT_S, func_only=True))


@dataclass(frozen=True)
class Streamed:
    """What came over one ``/chat`` stream; ``final`` is missing when it broke off."""

    deltas: tuple[str, ...] = ()
    final: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


@dataclass(frozen=True)
class Graph:
    """A running graph, seen from outside: HTTP, its stores and its processes."""

    url: str
    home: Path
    ours: bool
    http: httpx.Client = field(repr=False)

    # --- HTTP -------------------------------------------------------------------------------------------------

    def open_session(self, persona: str = "haneul", fan_id: str | None = None, **profile: str) -> dict[str, Any]:
        body: dict[str, Any] = {"persona": persona, "fan_id": fan_id, "profile": profile or None}
        answer = self.http.post("/session", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def ask(self, session_id: str, message: str) -> httpx.Response:
        return self.http.post("/chat", json={"session_id": session_id, "message": message})

    def chat(self, session_id: str, message: str) -> dict[str, Any]:
        """One turn that must succeed."""
        answer = self.ask(session_id, message)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def stream(self, session_id: str, message: str) -> Streamed:
        """One streamed turn, read to its end."""
        from httpx_sse import connect_sse

        body = {"session_id": session_id, "message": message, "stream": True}
        deltas, last = [], {}
        with connect_sse(self.http, "POST", "/chat", json=body) as source:
            if not source.response.is_success:
                source.response.read()
                return Streamed(error=source.response.json()["error"])
            for event in source.iter_sse():
                if event.event == "delta":
                    deltas.append(event.json()["text"])
                else:
                    last[event.event] = event.json()
        return Streamed(tuple(deltas), last.get("final"), last.get("error"))

    def memories(self, fan_id: str) -> list[dict[str, Any]]:
        answer = self.http.get(f"/profile/{fan_id}/memories")
        assert answer.status_code == 200, answer.text
        return answer.json()["memories"]

    def is_healthy(self) -> bool:
        with suppress(httpx.HTTPError, ValueError):
            return self.http.get("/health", timeout=10).json().get("status") == "ok"
        return False

    # --- stores -----------------------------------------------------------------------------------------------

    @property
    def servers(self) -> RunningServers:
        found = read_servers(self.home)
        assert found is not None, f"no embedded servers run under {self.home}: set ARTISTMIND_HOME to the graph's"
        return found

    def rows(self, query: str, *values: object) -> list[Any]:
        """Rows of a query against PostgreSQL, with columns as attributes."""
        import psycopg
        from psycopg.rows import namedtuple_row

        address = self.servers.database_url.replace("+psycopg", "")
        with psycopg.connect(address, connect_timeout=5, row_factory=namedtuple_row) as connection:
            return connection.execute(query, values).fetchall()

    def stored(self, session_id: str) -> list[Any]:
        """A session's messages as PostgreSQL has them, in order."""
        order = "ORDER BY created_at, turn_id, position"
        return self.rows(f"SELECT * FROM messages WHERE session_id = %s {order}", session_id)

    def window(self, session_id: str) -> list[Message] | None:
        """The running conversation as Redis has it."""

        async def read() -> list[Message] | None:
            memory = RedisMemory(self.servers.redis_url)
            try:
                return await memory.history(session_id)
            finally:
                await memory.close()

        return asyncio.run(read())

    def redis_keys(self, pattern: str) -> list[bytes]:
        import redis

        with redis.Redis.from_url(self.servers.redis_url, socket_timeout=5) as client:
            return list(client.scan_iter(pattern))

    # --- processes --------------------------------------------------------------------------------------------

    @property
    def state(self) -> RunState:
        return load_state(self.home)

    def server(self, name: str) -> psutil.Process:
        """The embedded server of that name; for PostgreSQL its postmaster."""
        return psutil.Process(self.servers.pids[name])

    def replicas(self, deployment: str) -> list[psutil.Process]:
        """Replicas of a deployment below our own Ray head, and of no other."""
        head = self.state.ray
        assert head is not None, "this graph has no Ray head of its own"
        title = f"ray::ServeReplica:chat:{deployment}"
        return [child for child in psutil.Process(head.process.pid).children(recursive=True) if _is(child, title)]

    def kill(self, process: psutil.Process) -> None:
        """SIGKILL, without a word; returns when it is gone."""
        assert self.ours, "only what these tests started may be killed"
        process.kill()
        self.eventually(lambda: not _runs(process), 10, f"pid {process.pid} is gone")

    @contextmanager
    def held(self, *servers: str) -> Iterator[None]:
        """Servers that hang: stopped but alive, so that their supervisor sees nothing to repair."""
        assert self.ours, "only what these tests started may be held"
        processes: list[psutil.Process] = []
        try:
            for name in servers:
                leader = self.server(name)
                leader.suspend()
                processes.append(leader)
                for child in leader.children(recursive=True):
                    with suppress(psutil.NoSuchProcess):
                        child.suspend()
                        processes.append(child)
            yield
        finally:
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.resume()

    # --- waiting ----------------------------------------------------------------------------------------------

    def eventually(self, check: Callable[[], T], timeout_s: float, what: str, pause_s: float = 0.2) -> T:
        """The first true result of ``check``; fails with ``what`` when none came in time."""
        deadline = time.monotonic() + timeout_s
        while not (result := check()):
            if time.monotonic() > deadline:
                pytest.fail(f"not within {timeout_s:.0f} s: {what}; last seen: {result!r}")
            time.sleep(pause_s)
        return result

    def eventually_healthy(self, timeout_s: float) -> None:
        self.eventually(self.is_healthy, timeout_s, "GET /health says ok")


class Load:
    """Fans who chat without a pause while a block runs; remembers every end that a client saw."""

    def __init__(self, graph: Graph, clients: int, persona: str) -> None:
        self.finals: list[dict[str, Any]] = []
        self.failures: list[str] = []
        self._graph = graph
        self._persona = persona
        self._stopping = threading.Event()
        self._fans = [threading.Thread(target=self._chat, daemon=True) for _ in range(clients)]

    def __enter__(self) -> Load:
        for fan in self._fans:
            fan.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        deadline = time.monotonic() + 90
        for fan in self._fans:
            fan.join(max(0.0, deadline - time.monotonic()))
        assert not any(fan.is_alive() for fan in self._fans), "a turn under load did not end within 90 s"

    def _chat(self) -> None:
        session, number = None, 0
        while not self._stopping.is_set():
            try:
                session = session or self._graph.open_session(self._persona)["session_id"]
                number += 1
                turn = self._graph.stream(session, f"오늘 산책을 {number}번 했어")
            except (httpx.HTTPError, AssertionError) as error:
                self._failed(f"{type(error).__name__}: {error}")
                continue
            if turn.final is None:
                self._failed(str(turn.error or "the stream broke off"))
            else:
                self.finals.append(turn.final | {"session_id": session})

    def _failed(self, how: str) -> None:
        self.failures.append(how)
        self._stopping.wait(0.2)


@pytest.fixture(scope="session")
def graph() -> Iterator[Graph]:
    """The shared graph, started on first use.

    Its home is no folder of pytest's: another pytest would close those to the user that PostgreSQL runs as.
    """
    url = os.environ.get("ARTISTMIND_E2E_URL")
    if url:
        with _client(url) as http:
            yield Graph(url, get_settings().home_dir, False, http)
        return
    folder = Path(mkdtemp(prefix="artistmind-e2e-"))
    home, port = folder / "home", choose_port()
    with _kept_running(home, port), _client(f"http://127.0.0.1:{port}") as http:
        yield Graph(str(http.base_url).rstrip("/"), home, True, http)
    left = owned_processes(home)
    assert not left, f"`down` left running: {left}"
    shutil.rmtree(folder, ignore_errors=True)  # kept after a failure, for its logs


@pytest.fixture
def breakable(graph: Graph) -> Iterator[Graph]:
    """The graph for a test that breaks something; whole again before the next test."""
    if not graph.ours:
        pytest.skip("stops parts of the graph: not on one that was not started here (ARTISTMIND_E2E_URL)")
    graph.eventually_healthy(60)
    yield graph
    graph.eventually_healthy(120)


@pytest.fixture
def fan() -> str:
    """The id of a fan nobody has heard of."""
    return f"fan-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def load(graph: Graph) -> Callable[..., Load]:
    """``with load(clients=4) as chats:`` keeps fans chatting for the length of a block."""

    def make(clients: int = 4, persona: str = "haneul") -> Load:
        return Load(graph, clients, persona)

    return make


@pytest.fixture
def at_once() -> Iterator[Callable[..., list[Any]]]:
    """``at_once(call, items)``: the results of calls that run at the same time, in order."""
    with ThreadPoolExecutor(16) as pool:

        def run(call: Callable[..., T], *items: Any) -> list[T]:
            futures: list[Future[T]] = [pool.submit(call, item) for item in items]
            return [future.result(timeout=120) for future in futures]

        yield run


@contextmanager
def _kept_running(home: Path, port: int) -> Iterator[None]:
    """``up`` now; ``down`` at the end of the block and also when this process is killed."""
    log = home.parent / "keeper.log"
    config = PROJECT_ROOT / "serve_local.yaml"
    flags = ["--port", str(port), "--config", str(config), "--timeout", str(START_TIMEOUT_S)]
    keeper = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("keeper.py")), str(log), str(START_TIMEOUT_S + 60), *flags],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT_ROOT,
        env=os.environ | {"ARTISTMIND_HOME": str(home), "PYTHONPATH": str(PROJECT_ROOT)},
        start_new_session=True,  # Ctrl-C ends the tests; the keeper then ends the graph
    )
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    try:
        code = keeper.stdout.readline().strip()
        if code != "0":
            pytest.fail(f"`artistmind up` failed ({code or 'killed'}):\n{log.read_text()[-3000:]}")
        yield
    finally:
        keeper.stdin.close()
        ended = keeper.wait(150)
    assert ended == 0, f"`artistmind down` failed:\n{log.read_text()[-3000:]}"


def _client(url: str) -> httpx.Client:
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=0)  # a killed gateway leaves no dead ones
    return httpx.Client(base_url=url, timeout=90, trust_env=False, limits=limits)


def _is(process: psutil.Process, title: str) -> bool:
    with suppress(psutil.Error):
        shown = " ".join(process.cmdline())
        return shown == title or shown.startswith((f"{title}.", f"{title} "))
    return False


def _runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
