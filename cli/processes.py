"""Processes of one installation: recognised for certain, ended completely, and nobody else's touched.

Every daemon is started with ``OWNER_VARIABLE`` in its environment, and whatever it starts inherits it. So a
process is ours when it carries our mark, however often it was re-parented, and a pid that the kernel gave away
again is never taken for ours.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from memory.embedded_process import ProcessRecord

OWNER_VARIABLE = "_ARTISTMIND_OWNER"
"""Holds the home of the installation that started the process."""

_started: list[subprocess.Popen[bytes]] = []
"""Daemons this very process started: kept until it exits, so that those that die are reaped and not warned about."""


def owner_mark(home: Path) -> dict[str, str]:
    return {OWNER_VARIABLE: str(home.resolve())}


def spawn(command: Sequence[str], log: Path, environment: Mapping[str, str], directory: Path) -> ProcessRecord:
    """Start a daemon in a session of its own, so that a Ctrl-C here does not reach it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=dict(environment),
            start_new_session=True,
        )
    _started.append(process)
    return ProcessRecord.of(process.pid)


def is_alive(record: ProcessRecord | None) -> bool:
    return record is not None and record.living() is not None


def owned_processes(home: Path, daemons: Iterable[ProcessRecord | None] = ()) -> list[psutil.Process]:
    """Everything that was started for ``home``, except this process and those it runs under.

    Ray's workers and PostgreSQL's backends write their title over their environment, and the mark with it: those
    are known by the session of the daemon that began it.
    """
    mark = str(home.resolve())
    sessions = {record.pid: record for record in daemons if record is not None and not _recycled(record)}
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [
        process
        for process in psutil.process_iter()
        if process.pid not in spared and (_carries(process, mark) or _in_session(process, sessions))
    ]


def _carries(process: psutil.Process, mark: str) -> bool:
    try:
        return _runs(process) and process.environ().get(OWNER_VARIABLE) == mark
    except (psutil.Error, OSError):  # ended meanwhile, or another user's
        return False


def _in_session(process: psutil.Process, sessions: Mapping[int, ProcessRecord]) -> bool:
    """The kernel gives no new process the number of a session that still has members."""
    try:
        record = sessions.get(os.getsid(process.pid))
        return record is not None and _runs(process) and process.create_time() > record.created - 1
    except (psutil.Error, OSError):
        return False


def _recycled(record: ProcessRecord) -> bool:
    """Another process has the daemon's number by now, so its session is not ours either."""
    try:
        return record.living() is None and _runs(psutil.Process(record.pid))
    except psutil.Error:
        return False


def family(record: ProcessRecord) -> list[psutil.Process]:
    """A daemon and its descendants, itself first; empty when it is gone."""
    leader = record.living()
    if leader is None:
        return []
    members = {leader.pid: leader}
    with suppress(psutil.Error):
        members |= {child.pid: child for child in leader.children(recursive=True)}
    return list(members.values())


def stop_family(record: ProcessRecord | None, grace_s: float) -> int:
    """End one daemon: SIGTERM to it alone, so that it ends its children in order, SIGKILL to what is left.

    Returns:
        How many processes ended.
    """
    members = family(record) if record is not None else []
    if not members:
        return 0
    with suppress(psutil.NoSuchProcess):
        members[0].terminate()
    kill(wait_gone(members, grace_s))
    return len(members)


def sweep(home: Path, daemons: Iterable[ProcessRecord | None], grace_s: float, spared: Collection[int] = ()) -> int:
    """End whatever is left of ``home``; returns how many processes that were."""
    left = [process for process in owned_processes(home, daemons) if process.pid not in spared]
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    kill(wait_gone(left, grace_s))
    return len(left)


def kill(processes: Sequence[psutil.Process]) -> None:
    """SIGKILL, and wait until they are gone. psutil refuses a pid that meanwhile means another process."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    wait_gone(processes, 30)


def wait_gone(processes: Sequence[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Wait until all have ended; returns those that have not.

    A zombie has ended: in a container without an init process nobody may ever collect it.
    """
    deadline = time.monotonic() + timeout_s
    left = [process for process in processes if _runs(process)]
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = [process for process in left if _runs(process)]
    return left


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def resident_mb(processes: Sequence[psutil.Process]) -> int:
    return sum(_resident(processes)) // 2**20


def _resident(processes: Sequence[psutil.Process]) -> Iterator[int]:
    for process in processes:
        with suppress(psutil.Error):
            yield process.memory_info().rss


def port_holder(port: int) -> psutil.Process | None:
    """Who listens on a TCP port, as far as this user may see."""
    with suppress(psutil.AccessDenied):
        for connection in psutil.net_connections("tcp"):
            address = connection.laddr
            if not address or address.port != port:
                continue
            if connection.status == psutil.CONN_LISTEN and connection.pid:
                with suppress(psutil.NoSuchProcess):
                    return psutil.Process(connection.pid)
    return None
