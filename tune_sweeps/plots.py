"""Pictures of a sweep: curves of all trials, and what the rank costs. Without matplotlib there are none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.logs import get_logger
from tune_sweeps.records import TrialRecord

CURVES, RANK_MEMORY = "curves.png", "rank_memory.png"


def draw(folder: Path, axis: str, records: Sequence[TrialRecord]) -> tuple[str, ...]:
    """Write the pictures there is something to show in; their file names."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        get_logger("sweep").warning("no pictures: matplotlib is not installed")
        return ()
    found: list[str] = []
    if any(one.curve for one in records):
        _save(_curves(Figure, records), folder / CURVES)
        found.append(CURVES)
    if axis == "rank" and any(one.memory_mib for one in records):
        _save(_rank_memory(Figure, records), folder / RANK_MEMORY)
        found.append(RANK_MEMORY)
    return tuple(found)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def _curves(figure_class: Any, records: Sequence[TrialRecord]) -> Any:
    figure = figure_class(figsize=(8, 5))
    axes = figure.subplots()
    values = list(dict.fromkeys(one.value for one in records))
    named: set[str] = set()
    style = {"finished": "-", "stopped": "--", "failed": ":"}
    for one in records:
        if one.curve:
            x, y = [point.progress for point in one.curve], [point.bits_per_char for point in one.curve]
            color = f"C{values.index(one.value)}"
            label = None if one.value in named else f"{one.value} ({one.status})"  # one entry, whatever the seeds
            named.add(one.value)
            axes.plot(x, y, style[one.status], color=color, marker=".", label=label)
    axes.set_xlabel("percent of the trial's steps")
    axes.set_ylabel("validation loss, bits per character")
    axes.legend()
    return figure


def _rank_memory(figure_class: Any, records: Sequence[TrialRecord]) -> Any:
    figure = figure_class(figsize=(6, 4))
    axes = figure.subplots()
    points = sorted((int(one.value), one.memory_mib) for one in records if one.memory_mib)
    axes.plot([rank for rank, _ in points], [memory for _, memory in points], marker="o")
    axes.set_xlabel("rank")
    axes.set_ylabel("memory, MiB")
    axes.set_ylim(bottom=0)
    return figure
