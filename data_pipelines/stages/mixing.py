"""How many rows of each kind go into the version."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data_pipelines.config import RATIO_KINDS
from data_pipelines.rows import Kind, Row
from data_pipelines.stages.base import Dropped

WRITTEN_FIRST = ("seeds", "chat_logs")
"""Sources whose rows are taken before others: people wrote them. Facts are not: every question is crossed with every
answer, and so many rows would leave no room for those that read passages."""


@dataclass(frozen=True, slots=True)
class Mixed:
    rows: list[Row]
    dropped: list[Dropped]
    shortfall: dict[Kind, int]
    """Rows that are missing, by kind."""


def preference(row: Row) -> tuple[int, str]:
    """Order in which rows are taken: by source, then by id."""
    source = row.dataset_source
    return WRITTEN_FIRST.index(source) if source in WRITTEN_FIRST else len(WRITTEN_FIRST), row.id


def mix(rows: Sequence[Row], wanted: Mapping[Kind, int], keep_ratio: bool, seed: int) -> Mixed:
    """``wanted`` rows of each kind; with ``keep_ratio`` a kind that is short makes the ratio's others fewer too."""
    by_kind: dict[Kind, list[Row]] = {}
    for row in sorted(rows, key=lambda one: (preference(one)[0], _shuffled(one, seed))):
        by_kind.setdefault(row.kind, []).append(row)
    goal = {kind: min(count, len(by_kind.get(kind, ()))) for kind, count in wanted.items()}
    shortfall = {kind: wanted[kind] - goal[kind] for kind in wanted if wanted[kind] > goal[kind]}
    if keep_ratio:
        scale = min((goal[kind] / wanted[kind] for kind in RATIO_KINDS if wanted.get(kind)), default=1.0)
        goal |= {kind: int(wanted[kind] * scale) for kind in RATIO_KINDS if wanted.get(kind)}
    taken = [row for kind in sorted(goal) for row in by_kind.get(kind, [])[: goal[kind]]]
    ids = {row.id for row in taken}
    dropped = [Dropped("mixing", f"{row.kind}: more than wanted", row) for row in rows if row.id not in ids]
    return Mixed(sorted(taken, key=lambda row: row.id), dropped, shortfall)


def _shuffled(row: Row, seed: int) -> str:
    return hashlib.sha256(f"{seed}\x00{row.id}".encode()).hexdigest()
