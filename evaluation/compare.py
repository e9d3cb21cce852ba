"""Several runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from core.errors import ConfigurationError
from evaluation.markdown import comparison_text
from evaluation.report import Report


def compare_files(paths: Sequence[Path]) -> str:
    """The Markdown table of these ``report.json`` files."""
    if len(paths) < 2:
        raise ConfigurationError("a comparison takes two reports or more")
    return comparison_text([read_report(path) for path in paths])


def read_report(path: Path) -> Report:
    """A report as it was written; ``ConfigurationError`` when the file is none."""
    try:
        return Report.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read ({error})") from error
    except ValidationError as error:
        raise ConfigurationError(f"{path}: is no evaluation report: {error.errors()[0]['msg']}") from error
