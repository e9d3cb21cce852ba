"""What a stage decides about a row, and how decisions are counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from data_pipelines.rows import Row


@dataclass(frozen=True, slots=True)
class Outcome:
    """The row as it goes on, or why it does not."""

    row: Row | None
    reason: str | None = None

    @staticmethod
    def keep(row: Row) -> Outcome:
        return Outcome(row)

    @staticmethod
    def drop(reason: str) -> Outcome:
        return Outcome(None, reason)


RowStage = Callable[[Row], Outcome]


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row that did not pass, for the counts and for the report's examples."""

    stage: str
    reason: str
    row: Row


class StageCount(BaseModel):
    """What went into a stage and came out of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    rows_in: int
    rows_out: int
    changed: int = 0
    """Rows that went on with other words."""

    dropped: dict[str, int] = {}
    """Rows that did not go on, by reason."""


def count_stages(
    order: Iterable[str], total: int, dropped: Iterable[Dropped], changed: Counter[str]
) -> list[StageCount]:
    """Counts of stages that rows pass one after the other."""
    reasons: dict[str, Counter[str]] = {}
    for one in dropped:
        reasons.setdefault(one.stage, Counter())[one.reason] += 1
    counts: list[StageCount] = []
    for stage in order:
        lost = reasons.get(stage, Counter())
        out = total - lost.total()
        counts.append(
            StageCount(
                stage=stage, rows_in=total, rows_out=out, changed=changed[stage], dropped=dict(sorted(lost.items()))
            )
        )
        total = out
    return counts
