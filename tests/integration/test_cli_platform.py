"""`artistmind up` and `down` with real Ray, real servers and a tiny graph: what starts also ends, and only that."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from cli.ray_env import ray_directory
from core.settings import PROJECT_ROOT
from memory.embedded_process import choose_port

FIXTURES = PROJECT_ROOT / "tests" / "fixtures" / "tiny_graph"
pytestmark = [pytest.mark.slow, pytest.mark.services]


@dataclass(frozen=True)
class Installation:
    """A home of its own, and the command run against it."""

    home: Path
    port: int

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "ARTISTMIND_HOME": str(self.home), "PYTHONPATH": f"{FIXTURES}:{PROJECT_ROOT}"}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "cli.main", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
            cwd=self.home.parent,
            # A shell that starts the tests in the background makes them, and so the command, deaf to Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        out, err = process.communicate(stdin, timeout=280)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def up(self, graph: str = "tiny", *arguments: str) -> subprocess.CompletedProcess[str]:
        config = str(FIXTURES / f"{graph}.yaml")
        return self.run("up", "--port", str(self.port), "--config", config, "--timeout", "240", *arguments)

    def status(self) -> dict[str, object]:
        return json.loads(self.run("status", "--json").stdout)

    def pids(self) -> dict[str, int]:
        return {row["name"].strip(): row["pid"] for row in self.status()["components"]}

    def left_running(self) -> list[str]:
        """Found without the code under test: by what stands on the command lines."""
        names = (str(self.home), str(ray_directory(self.home)))
        return [
            f"{process.pid} {process.info['cmdline']}"
            for process in psutil.process_iter(["cmdline", "status"])
            if process.info["status"] != psutil.STATUS_ZOMBIE
            and any(name in argument for argument in process.info["cmdline"] or () for name in names)
        ]


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    made = Installation(tmp_path / "home", choose_port())
    yield made
    made.run("down")
    assert made.left_running() == []


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One platform for the tests that only look at it."""
    made = Installation(tmp_path_factory.mktemp("platform") / "home", choose_port())
    result = made.up()
    assert result.returncode == 0, result.stderr
    yield made
    stopped = made.run("down")
    assert stopped.returncode == 0, stopped.stderr
    assert made.left_running() == []


def test_second_up_finds_the_first(running: Installation) -> None:
    before = running.pids()
    again = running.up()
    assert again.returncode == 0
    assert f"already running at http://127.0.0.1:{running.port}" in again.stdout
    assert running.pids() == before


def test_status_names_every_part_and_is_healthy(running: Installation) -> None:
    result = running.run("status", "--json")
    assert result.returncode == 0
    assert {"postgres", "redis", "ray", "graph", "Echo", "Gateway"} <= set(running.pids())
    assert json.loads(result.stdout)["healthy"] is True


def test_chat_through_a_pipe(running: Installation) -> None:
    result = running.run("chat", stdin="안녕\n/quit\n못 듣는 말\n")
    assert result.returncode == 0
    assert result.stdout == "메아리: 안녕\n"


def test_logs_of_a_deployment_and_of_nobody(running: Installation) -> None:
    assert "ServeReplica:chat:Gateway" in running.run("logs", "gateway").stdout
    unknown = running.run("logs", "nobody")
    assert unknown.returncode == 1
    assert "gateway" in unknown.stderr


def test_env_lets_a_job_run_on_our_ray(running: Installation, tmp_path: Path) -> None:
    (tmp_path / "probe_job.py").write_text("import ray; ray.init(); print('cpus', ray.cluster_resources()['CPU'])")
    exports = running.run("env").stdout
    job = f"{exports}\ncd {tmp_path}\nray job submit --working-dir . -- python probe_job.py"
    result = subprocess.run(["bash", "-c", job], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "cpus " in result.stdout


def test_only_loopback_serves_the_gateway(running: Installation) -> None:
    listening = [c.laddr for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    assert [address.ip for address in listening if address.port == running.port] == ["127.0.0.1"]


def test_up_repairs_what_died_and_keeps_the_rest(installation: Installation) -> None:
    assert installation.up().returncode == 0
    before = installation.pids()
    os.kill(before["ray"], signal.SIGKILL)
    assert installation.run("status").returncode == 1
    assert installation.up().returncode == 0
    after = installation.pids()
    assert after["ray"] != before["ray"]
    assert after["servers"] == before["servers"]


def test_a_taken_port_is_named_and_nothing_starts(installation: Installation) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", installation.port))
        holder.listen()
        result = installation.up()
    assert result.returncode == 1
    assert f"port {installation.port} is taken by pid {os.getpid()}" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert installation.left_running() == []


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        ("broken_build", "the builder has no plan"),
        ("broken_echo", "the echo has no voice"),
        ("not_durable", "not stored"),
    ],
)
def test_a_failing_graph_says_why_and_leaves_nothing(installation: Installation, graph: str, reason: str) -> None:
    result = installation.up(graph)
    assert result.returncode == 1
    assert reason in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert installation.left_running() == []


@pytest.mark.parametrize("stage", ["embedded servers", "Ray", "Serve graph"])
def test_interrupted_up_leaves_nothing(installation: Installation, stage: str) -> None:
    config = str(FIXTURES / "tiny.yaml")
    process = installation.start("up", "--port", str(installation.port), "--config", config)
    assert process.stdout is not None
    for line in process.stdout:
        if stage in line:
            break
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 130, err
    assert "interrupted" in err
    assert installation.left_running() == []


def test_down_twice_and_a_stranger_survives(installation: Installation) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    try:
        assert installation.up("tiny", "--no-check").returncode == 0
        assert "stopped" in installation.run("down").stdout
        assert installation.run("down").stdout.strip() == "nothing was running"
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
