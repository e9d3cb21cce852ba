"""Commands of training as processes of their own, run to their end or killed with all they started; Ray clusters."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from core.settings import PROJECT_ROOT

PATIENCE_S = 600


def environment_of(home: Path, models: Path) -> dict[str, str]:
    """Outputs go to ``home``; no cluster and no tracker is taken over from the caller."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "WANDB_"))}
    return kept | {
        "ARTISTMIND_HOME": str(home),
        "ARTISTMIND_MODELS_DIR": str(models),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "RAY_raylet_start_wait_time_s": "120",
        # Ray Train asks its workers every two seconds, and some times at the end: seconds of a run that takes few.
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
        "WANDB_SILENT": "true",
    }


def start(command: Sequence[str], environment: dict[str, str], **more: Any) -> "subprocess.Popen[Any]":
    """The command in a group of its own, so that ``kill_group`` reaches what it starts."""
    return subprocess.Popen(command, cwd=PROJECT_ROOT, env=environment, start_new_session=True, **more)


def run(command: Sequence[str], environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """The command to its end; one that takes too long is killed with all that it started."""
    pipe = subprocess.PIPE
    process = start(command, environment, stdout=pipe, stderr=pipe, text=True)
    try:
        said, errors = process.communicate(timeout=PATIENCE_S)
    finally:
        kill_group(process)
    return subprocess.CompletedProcess(command, process.returncode, said, errors)


def finish(command: Sequence[str], environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """The command to its end, which has to be a good one."""
    done = run(command, environment)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done


def kill_group(process: "subprocess.Popen[Any]") -> None:
    """Kill what is left of the group, and what Ray put into groups of its own."""
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.kill()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster on this machine; each node is a raylet of its own."""

    address: str
    jobs: str
    nodes: tuple["subprocess.Popen[Any]", ...]


@contextmanager
def ray_cluster(environment: dict[str, str], cpus: int, nodes: int = 0) -> Iterator[Cluster]:
    """A head with so many CPUs, and ``nodes`` further nodes of one CPU each."""
    ports = free_ports(6)
    # Ray's sockets lie below it, and their paths may not be longer than about 100 characters.
    directory = tempfile.mkdtemp(prefix="am-", dir="/tmp")
    names = ("port", "dashboard-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port")
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--node-ip-address=127.0.0.1"]
    ray += ["--disable-usage-stats", "--object-store-memory=100000000"]
    head = [*ray, "--head", f"--num-cpus={cpus}", "--dashboard-host=127.0.0.1", f"--temp-dir={directory}"]
    head += [f"--ray-client-server-port={ports[4]}", f"--metrics-export-port={ports[5]}"]
    head += [f"--{name}={port}" for name, port in zip(names, ports, strict=False)]
    address = f"127.0.0.1:{ports[0]}"
    with ExitStack() as started:
        started.callback(shutil.rmtree, directory, ignore_errors=True)
        # One after the other: a node that starts beside another one is at times never registered.
        commands = [head, *([*ray, f"--address={address}", "--num-cpus=1"] for _ in range(nodes))]
        running = []
        for number, command in enumerate(commands):
            said = Path(directory, f"start-{number}.txt")
            with said.open("wb") as file:
                running.append(start(command, environment, stdout=file, stderr=subprocess.STDOUT))
            started.callback(kill_group, running[-1])
            wait_for_text("Ray runtime started", said, running[-1])
        yield Cluster(address, f"http://127.0.0.1:{ports[1]}", tuple(running[1:]))


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on."""
    with ExitStack() as opened:
        sockets = [opened.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def wait_for_text(text: str, file: Path, process: "subprocess.Popen[Any]") -> None:
    """Until the process has written the text into the file."""
    deadline = time.monotonic() + PATIENCE_S
    while text not in (said := file.read_text(encoding="utf-8", errors="replace")):
        assert process.poll() is None, f"it ended: {said[-4000:]}"
        assert time.monotonic() < deadline, f"it does not say {text!r}: {said[-4000:]}"
        time.sleep(0.2)
