"""Ending processes: only ours, all of ours, and never a recycled pid."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from cli.processes import (
    family,
    is_alive,
    owned_processes,
    owner_mark,
    port_holder,
    spawn,
    stop_family,
    sweep,
    wait_gone,
)
from memory.embedded_process import ProcessRecord, choose_port

SLEEP = "import time; time.sleep(60)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('set', flush=True); time.sleep(60)"
)
PARENT = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}]).wait()"
FORGETS_ITS_MARK = f"import os, sys; os.execve(sys.executable, [sys.executable, '-c', {SLEEP!r}], {{}})"

Daemon = Callable[..., ProcessRecord]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Starts Python code as a marked daemon; whatever a test leaves is killed."""
    started: list[psutil.Process] = []

    def start(code: str, home: Path = tmp_path) -> ProcessRecord:
        environment = {**os.environ, **owner_mark(home)}
        record = spawn([sys.executable, "-c", code], tmp_path / "log", environment, tmp_path)
        process = psutil.Process(record.pid)
        started.append(process)
        # For an instant after its start the kernel shows a process with neither arguments nor environment.
        assert eventually(lambda: process.cmdline() != [])
        return record

    yield start
    for process in started:
        if process.is_running():
            for member in [*process.children(recursive=True), process]:
                member.kill()


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def test_a_daemon_lives_in_its_own_session(daemon: Daemon) -> None:
    record = daemon(SLEEP)
    assert os.getsid(record.pid) == record.pid


def test_stop_ends_a_daemon_with_its_children(daemon: Daemon) -> None:
    record = daemon(PARENT)
    assert eventually(lambda: len(family(record)) == 2)
    members = family(record)
    assert stop_family(record, 0.5) == 2
    assert wait_gone(members, 0) == []


def test_stop_insists_where_sigterm_is_ignored(daemon: Daemon, tmp_path: Path) -> None:
    record = daemon(STUBBORN)
    assert eventually(lambda: "set" in (tmp_path / "log").read_text())
    assert stop_family(record, 0.2) == 1
    assert not is_alive(record)


def test_a_recycled_pid_is_left_alone(daemon: Daemon) -> None:
    living = daemon(SLEEP)
    stale = ProcessRecord(living.pid, living.created - 100)
    assert stop_family(stale, 0.1) == 0
    assert is_alive(living)


def test_a_session_number_that_was_recycled_is_left_alone(daemon: Daemon, tmp_path: Path) -> None:
    other = daemon(SLEEP, tmp_path / "other")
    stale = ProcessRecord(other.pid, other.created - 100)
    assert owned_processes(tmp_path / "mine", [stale]) == []


def test_nothing_to_stop_is_fine() -> None:
    assert stop_family(None, 0.1) == 0


def test_ours_are_found_by_mark_and_other_homes_are_not(daemon: Daemon, tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    record, other = daemon(SLEEP, mine), daemon(SLEEP, theirs)
    assert [process.pid for process in owned_processes(mine)] == [record.pid]
    assert sweep(mine, (), 5) == 1
    assert not is_alive(record)
    assert is_alive(other)


def test_a_process_without_its_mark_is_known_by_its_session(daemon: Daemon, tmp_path: Path) -> None:
    record = daemon(FORGETS_ITS_MARK)
    assert eventually(lambda: psutil.Process(record.pid).cmdline()[-1:] == [SLEEP])
    assert owned_processes(tmp_path) == []
    assert [process.pid for process in owned_processes(tmp_path, [record])] == [record.pid]


def test_the_sweep_spares_whom_it_is_told_to(daemon: Daemon, tmp_path: Path) -> None:
    spared, swept = daemon(SLEEP), daemon(SLEEP)
    assert sweep(tmp_path, (), 5, {spared.pid}) == 1
    assert is_alive(spared)
    assert not is_alive(swept)


def test_this_process_is_never_ours(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from cli.processes import owned_processes; import sys;"
        "print(len(owned_processes(Path(sys.argv[1]))))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, **owner_mark(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == "0"


def test_a_zombie_has_ended() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    process = psutil.Process(child.pid)
    assert eventually(lambda: process.status() == psutil.STATUS_ZOMBIE)
    assert wait_gone([process], 0) == []
    child.wait()


def test_the_holder_of_a_port_is_named() -> None:
    import socket

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        holder = port_holder(server.getsockname()[1])
        assert holder is not None
        assert holder.pid == os.getpid()
    assert port_holder(choose_port()) is None
