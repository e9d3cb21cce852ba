"""What the benchmarks' pages have in common: turns, medians with their spread, table rows, where a page goes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median


def turn_order(names: Sequence[str], turn: int) -> list[str]:
    """The arms of one round. Each round another one begins, so that none is always the first on a cool machine."""
    begin = turn % len(names)
    return [*names[begin:], *names[:begin]]


def spread(values: Sequence[float], form: str = ".1f", unit: str = "") -> str:
    """``1.5 s (1.2–1.9)``: the median, in brackets the lowest and the highest."""
    return f"{median(values):{form}}{unit} ({min(values):{form}}–{max(values):{form}})"


def table_row(cells: Sequence[str]) -> str:
    """One line of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def deliver(page: str, out: Path | None) -> None:
    """Print the page, and write it where it is wanted."""
    print(page)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page, encoding="utf-8")
