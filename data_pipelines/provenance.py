"""What made a version: code, tools, tokenizer."""

from __future__ import annotations

import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from core.errors import ConfigurationError
from core.settings import PROJECT_ROOT
from data_pipelines.sources.base import file_hash

TOOLS = ("kiwipiepy", "datasketch", "scikit-learn", "transformers", "ray", "pyarrow")
"""Packages whose version can change which rows pass."""

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


def tool_versions(base: str) -> dict[str, str]:
    """Versions of the tools, and the hash of the tokenizer that rendered the rows."""
    found = {tool: _version(tool) for tool in TOOLS}
    tokenizer = Path(base) / "tokenizer.json"
    return {**found, "tokenizer": file_hash(tokenizer) if tokenizer.is_file() else base}


def refuse_uploaded_copy(path: Path) -> None:
    """A submitted job runs in a copy of the code that Ray deletes: no version may be kept there."""
    if any(part.startswith(UPLOADED_COPY) for part in path.parts):
        raise ConfigurationError(
            f"{path} is inside the job's copy of the code, which Ray deletes; set ARTISTMIND_HOME to an absolute "
            "path in the cluster's environment"
        )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return UNKNOWN
