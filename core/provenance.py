"""Which code runs, and where a submitted job may keep what it makes."""

from __future__ import annotations

import subprocess
from pathlib import Path

from core.errors import ConfigurationError
from core.settings import PROJECT_ROOT

UNKNOWN = "unknown"
UPLOADED_COPY = "_ray_pkg_"
"""How Ray names the folder that a submitted job's working directory is unpacked to."""


def code_revision() -> str:
    """The commit that runs, ``-dirty`` when files differ from it; a job's uploaded copy knows none."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return UNKNOWN
    return done.stdout.strip() or UNKNOWN


def refuse_uploaded_copy(path: Path, setting: str) -> None:
    """A submitted job runs in a copy of the code that Ray deletes: nothing may be kept there.

    Raises:
        ConfigurationError: ``path`` is inside the copy; names ``setting`` and the remedy.
    """
    if any(part.startswith(UPLOADED_COPY) for part in path.parts):
        raise ConfigurationError(
            f"{setting}: {path} is inside the job's copy of the code, which Ray deletes; set ARTISTMIND_HOME to an "
            f"absolute path in the cluster's environment, or {setting} itself"
        )
