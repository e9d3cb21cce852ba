"""Training and validation: conversations that are alike stay on one side."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from data_pipelines.rows import Row
from data_pipelines.stages.decontaminate import normalised
from data_pipelines.stages.duplicates import similar_pairs


def split(rows: Sequence[Row], share: float, threshold: float, seed: int) -> dict[str, list[Row]]:
    """``train`` and ``validation``, each ordered by id.

    Groups of rows that are alike, or that begin with the same words of the fan, are placed whole, in an order that
    the seed gives, on the validation side as long as it has room for them.
    """
    ordered = sorted(rows, key=lambda row: row.id)
    goal = round(len(ordered) * share)
    validation: set[int] = set()
    for group in sorted(_groups(ordered, threshold), key=lambda group: _rank(ordered[group[0]], seed)):
        if len(validation) + len(group) <= goal:
            validation.update(group)
    return {
        "train": [row for position, row in enumerate(ordered) if position not in validation],
        "validation": [row for position, row in enumerate(ordered) if position in validation],
    }


def _groups(rows: Sequence[Row], threshold: float) -> list[list[int]]:
    """Connected rows, each group in order."""
    parents = list(range(len(rows)))

    def root(position: int) -> int:
        while parents[position] != position:
            parents[position] = parents[parents[position]]
            position = parents[position]
        return position

    def join(one: int, other: int) -> None:
        first, second = sorted((root(one), root(other)))
        parents[second] = first

    for one, other in similar_pairs(rows, threshold):
        join(one, other)
    openings: dict[str, int] = {}
    for position, row in enumerate(rows):
        join(openings.setdefault(normalised(" ".join(row.texts("user"))), position), position)
    groups: dict[int, list[int]] = {}
    for position in range(len(rows)):
        groups.setdefault(root(position), []).append(position)
    return list(groups.values())


def _rank(row: Row, seed: int) -> str:
    return hashlib.sha256(f"split\x00{seed}\x00{row.id}".encode()).hexdigest()
