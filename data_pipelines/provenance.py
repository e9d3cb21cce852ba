"""What made a version besides its code: tools and tokenizer."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from core.provenance import UNKNOWN
from data_pipelines.sources.base import file_hash

TOOLS = ("kiwipiepy", "datasketch", "scikit-learn", "transformers", "ray", "pyarrow")
"""Packages whose version can change which rows pass."""


def tool_versions(base: str) -> dict[str, str]:
    """Versions of the tools, and the hash of the tokenizer that rendered the rows."""
    found = {tool: _version(tool) for tool in TOOLS}
    tokenizer = Path(base) / "tokenizer.json"
    return {**found, "tokenizer": file_hash(tokenizer) if tokenizer.is_file() else base}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return UNKNOWN
