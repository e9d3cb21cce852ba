"""What a trial has reported so far. It travels with each report and lies in each checkpoint.

So the curve of a trial that was interrupted is whole, wherever Tune's own log files were when its process died.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.errors import TrainingDiverged
from tune_sweeps.records import CurvePoint

WHOLE = 100.0
"""Percent of a trial that has done all its steps."""

FILE = "curve.json"
"""In a checkpoint, beside the adapter."""


class History:
    """A trial's reports, oldest first, and its training time over interruptions."""

    def __init__(self, points: Sequence[CurvePoint] = ()) -> None:
        self._points = list(points)
        self._began = time.monotonic() - self.seconds

    @classmethod
    def of(cls, checkpoint: str | None) -> History:
        """The history that a checkpoint's folder holds; an empty one without a checkpoint."""
        if checkpoint is None:
            return cls()
        points = json.loads((Path(checkpoint) / FILE).read_text(encoding="utf-8"))
        return cls([CurvePoint.model_validate(point) for point in points])

    @property
    def step(self) -> int:
        """Steps done at the last report."""
        return self._points[-1].step if self._points else 0

    @property
    def seconds(self) -> float:
        """Training time at the last report."""
        return self._points[-1].seconds if self._points else 0.0

    def clock(self) -> float:
        """Training time now: that of earlier processes, and since this one began."""
        return time.monotonic() - self._began

    def add(self, point: CurvePoint) -> None:
        """Take a report in.

        Raises:
            TrainingDiverged: Its loss is no number: the trial has failed.
        """
        if not math.isfinite(point.validation_loss):
            raise TrainingDiverged(
                f"step {point.step}: the validation loss is {point.validation_loss}; is the learning rate too high?"
            )
        self._points.append(point)

    @property
    def complete(self) -> bool:
        """Whether the last report was the trial's last one."""
        return bool(self._points) and self._points[-1].progress >= WHOLE

    def metrics(self) -> dict[str, Any]:
        """The last report as Tune takes it, with the curve up to it."""
        return {**self._points[-1].model_dump(), "curve": self._plain()}

    def write(self, folder: Path) -> None:
        """Put it into a checkpoint."""
        (folder / FILE).write_text(json.dumps(self._plain()), encoding="utf-8")

    def _plain(self) -> list[dict[str, Any]]:
        return [point.model_dump() for point in self._points]
