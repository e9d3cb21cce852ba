"""Processes of the embedded servers: found, stopped and never left behind. Knows neither server."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom

import psutil

from core.errors import SetupError

_PORTS = range(20_000, 32_000)
"""Below the ephemeral range: a client that retries a dead port there may connect to itself and take it."""

MINIMUM_FREE_BYTES = 256 * 2**20
"""Less than this on the disk and PostgreSQL would stop in the middle of something."""

_PR_SET_CHILD_SUBREAPER = 36


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the file system refuses under ``path`` into one line that names it."""
    try:
        yield
    except OSError as error:
        place = error.filename or path
        remedy = "free or unlock it, or set ARTISTMIND_HOME to another folder"
        raise SetupError(f"cannot write {place} ({error.strerror}): {remedy}") from error


def ensure_home(home: Path) -> None:
    """Make the folder of all state, and refuse one that cannot take it."""
    with disk_errors(home):
        home.mkdir(parents=True, exist_ok=True)
        (home / "logs").mkdir(exist_ok=True)
        probe = home / f".probe.{os.getpid()}"
        probe.write_bytes(b"x")
        probe.unlink()
    if shutil.disk_usage(home).free < MINIMUM_FREE_BYTES:
        needed = f"free {MINIMUM_FREE_BYTES // 2**20} MB, or set ARTISTMIND_HOME elsewhere"
        raise SetupError(f"the disk of {home} is full: {needed}")


def write_private(path: Path, text: str) -> None:
    """Write a file only its owner can read, so that a reader sees the old text or the new, never a part."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with disk_errors(path):
        with suppress(FileNotFoundError):
            temporary.unlink()
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what just stopped leaves TIME_WAIT behind
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def choose_port() -> int:
    """A free loopback port.

    Raises:
        SetupError: none of many was free.
    """
    for port in SystemRandom().sample(_PORTS, 200):
        if port_is_free(port):
            return port
    raise SetupError(f"no free TCP port on 127.0.0.1 between {_PORTS.start} and {_PORTS.stop}: stop what holds them")


def adopt_orphans() -> None:
    """Make this process the parent of its servers' orphans, so that they can be recognised and reaped."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """A process that survives its number being used again: pid and time of birth."""

    pid: int
    created: float

    @staticmethod
    def of(pid: int) -> ProcessRecord:
        return ProcessRecord(pid, psutil.Process(pid).create_time())

    @staticmethod
    def read(path: Path) -> ProcessRecord | None:
        try:
            return ProcessRecord(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, path: Path) -> None:
        write_private(path, json.dumps({"pid": self.pid, "created": self.created}))

    def living(self) -> psutil.Process | None:
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < 1
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


def stop_recorded(record: Path, gentle: signal.Signals, patience_s: float) -> None:
    """Stop the process that ``record`` names, if it still lives; returns when it is gone."""
    written = ProcessRecord.read(record)
    process = written.living() if written is not None else None
    if process is not None:
        _stop(process, gentle, patience_s)


def stop_child(process: subprocess.Popen[bytes], gentle: signal.Signals, patience_s: float) -> None:
    """Ask our own child to stop, then make it; returns when it is gone."""
    if process.poll() is None:
        _stop(psutil.Process(process.pid), gentle, patience_s)
        process.poll()


def _stop(process: psutil.Process, gentle: signal.Signals, patience_s: float) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(gentle)
        if not _ends_within(process, patience_s):
            process.kill()
            _ends_within(process, 10)


def _ends_within(process: psutil.Process, patience_s: float) -> bool:
    """Whether ``process`` ends in time. A zombie has ended: whose child it was may never collect it."""
    deadline = time.monotonic() + patience_s
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def kill_processes_in(directory: Path, name: str) -> None:
    """Kill what is called ``name`` and works in ``directory``, and the orphans this process inherited."""
    found = [process for process in psutil.process_iter() if _belongs(process, directory, name)]
    for process in found:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    for process in found:
        with suppress(psutil.NoSuchProcess):
            _ends_within(process, 10)


def reap_orphans(children: set[int]) -> None:
    """Collect inherited orphans that have ended; ``children`` are collected by their owners."""
    with suppress(ChildProcessError):
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            if ended.si_pid in children:
                return
            os.waitpid(ended.si_pid, os.WNOHANG)


def _belongs(process: psutil.Process, directory: Path, name: str) -> bool:
    try:
        if not process.name().startswith(name) or process.pid == os.getpid():
            return False
        return Path(process.cwd()) == directory.resolve()
    except psutil.AccessDenied:  # another user's process in a container: its parent still tells
        with suppress(psutil.Error):
            return process.ppid() == os.getpid()
    except psutil.Error:
        pass
    return False


def last_line(log: Path) -> str:
    """The last thing a server said, for an error of one line."""
    with suppress(OSError):
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1].strip() if lines else "it said nothing"
    return "it said nothing"
