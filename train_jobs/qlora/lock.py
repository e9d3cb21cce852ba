"""One controller at a time writes to a run's folder.

A killed job leaves Ray's controller alive for some seconds, and it goes on registering and deleting checkpoints. A
new job of the same name that started meanwhile would find its own list of checkpoints made wrong.

The folder is the run's local one: with a bucket as storage, jobs on other machines are not excluded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from ray.train import UserCallback

from core.errors import ConfigurationError

LOCK_FILE = "run.lock"


def wait_until_free(run_dir: Path, patience_s: float) -> None:
    """Return when no controller holds the folder; raise ``ConfigurationError`` when one still does in the end."""
    try:
        FileLock(run_dir / LOCK_FILE).acquire(timeout=patience_s, poll_interval=0.2).lock.release()
    except Timeout as error:
        raise ConfigurationError(
            f"run {run_dir.name} is trained by another job: wait for it, or choose another run_name"
        ) from error


class HoldRunFolder(UserCallback):
    """Takes the folder's lock in the controller with its first checkpoint; the end of the process gives it back."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._lock: FileLock | None = None

    def after_report(self, run_context: Any, metrics: Any, checkpoint: Any) -> None:
        """Raises ``filelock.Timeout``, which ends this run, when another controller has the folder."""
        if self._lock is None:
            self._lock = FileLock(self._run_dir / LOCK_FILE)
            self._lock.acquire(timeout=0)
