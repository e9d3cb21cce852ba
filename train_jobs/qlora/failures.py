"""Failures of a run: which are told in one line, and which are not tried again.

Ray Train repeats whatever raises in a worker. That is right for a process that was lost, and wrong for a loss that is
no number or a disk that is full: the same settings would fail in the same way, hours later.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.train import UserCallback

from core.errors import ArtistMindError, SetupError

EXCEPTION = re.compile(r"[\w.]*(Error|Exception|Timeout): .")
FULL = (errno.ENOSPC, errno.EDQUOT)


class StopOnOurErrors(UserCallback):
    """Ends the run, without another attempt, when a worker raised one of our own errors.

    Runs in Ray's controller. What a callback raises is a failure of the controller, and these are never repeated.
    """

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        for error in worker_exceptions.values():
            if isinstance(error, ArtistMindError):
                raise error


def our_error(error: BaseException) -> ArtistMindError:
    """The error to show for what ``fit`` raised: ours when one is at its root, else its own last line."""
    for cause in _causes(error):
        if isinstance(cause, ArtistMindError):
            return cause
    if "out of memory" in str(error).lower():
        return ArtistMindError(
            "the training failed: a worker ran out of memory: lower batch_size or max_length, turn "
            "gradient_checkpointing on, or give the machine to this run alone; see the log above"
        )
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    reason = next((line for line in reversed(lines) if EXCEPTION.match(line)), lines[-1])
    return ArtistMindError(f"the training failed: {reason}; see the log above")


@contextmanager
def full_disk_named(what: str) -> Iterator[None]:
    """Turn a full disk, whichever library meets it, into one line."""
    try:
        yield
    except Exception as error:  # each library has its own error for a full disk; all others go on
        if not is_full_disk(error):
            raise
        raise SetupError(
            f"{what} could not be written: no space left; the checkpoints before it are whole: free some space and "
            "run the same command again"
        ) from error


def is_full_disk(error: BaseException) -> bool:
    """Whether an error, or one that it came from, says that a disk or quota is full."""
    return any(
        (isinstance(cause, OSError) and cause.errno in FULL) or "No space left on device" in str(cause)
        for cause in _causes(error)
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, then what it was raised from; Ray keeps that of its controller in a field."""
    while error is not None:
        yield error
        error = getattr(error, "controller_failure", None) or error.__cause__ or error.__context__
