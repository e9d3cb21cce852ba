"""Shows the stages of a long command: live where a person watches, plain lines where a file or CI does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_MARKS = {"running": "…", "done": "✓", "failed": "✗"}
_STYLES = {"running": "cyan", "done": "green", "failed": "red"}


@dataclass
class Stage:
    """One step: what it is called, what it waits for, how long it took."""

    name: str
    note: str = ""
    status: str = "running"
    started: float = field(default_factory=time.monotonic)
    took_s: float | None = None

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.started if self.took_s is None else self.took_s

    def finish(self, status: str) -> None:
        self.took_s = self.elapsed_s
        self.status = status

    def line(self) -> str:
        note = f"  {self.note}" if self.note else ""
        return f"{_MARKS[self.status]} {self.name:<18} {self.elapsed_s:6.1f} s{note}"


class Progress:
    """The stages so far. ``say`` tells what the running stage waits for."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._stages: list[Stage] = []
        self._started = time.monotonic()

    @property
    def total_s(self) -> float:
        return time.monotonic() - self._started

    def live(self) -> AbstractContextManager[object]:
        """Redraws the stages in place while a person watches."""
        if not self._console.is_terminal:
            return nullcontext()
        from rich.live import Live

        return Live(console=self._console, get_renderable=self._render, refresh_per_second=8)

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Time a step; whatever leaves it as an exception marks it failed."""
        stage = Stage(name)
        self._stages.append(stage)
        try:
            yield stage
        except BaseException:
            self._end(stage, "failed")
            raise
        self._end(stage, "done")

    def say(self, note: str) -> None:
        stage = self._stages[-1]
        if note == stage.note:
            return
        stage.note = note
        if not self._console.is_terminal:
            self._print(stage)

    def _end(self, stage: Stage, status: str) -> None:
        stage.finish(status)
        if not self._console.is_terminal:
            self._print(stage)

    def _print(self, stage: Stage) -> None:
        self._console.print(stage.line(), markup=False, highlight=False, soft_wrap=True)

    def _render(self) -> RenderableType:
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 1))
        for stage in self._stages:
            mark = Text(_MARKS[stage.status], _STYLES[stage.status])
            table.add_row(mark, stage.name, f"{stage.elapsed_s:6.1f} s", Text(stage.note, "dim"))
        return table
