"""Near-duplicates by MinHash: which conversations are alike, and which of them stays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import regex

from data_pipelines.rows import Row
from data_pipelines.stages.base import Dropped

PERMUTATIONS = 64
SHINGLE = 3
HASH_SEED = 1

_NO_WORD = regex.compile(r"[\W_]+")


def shingles(row: Row) -> set[str]:
    """Character n-grams of what both sides say; who says it counts, punctuation and context do not."""
    found: set[str] = set()
    for role in ("user", "assistant"):
        said = _NO_WORD.sub("", "".join(row.texts("user" if role == "user" else "assistant")).casefold())
        found.update(role[0] + said[start : start + SHINGLE] for start in range(max(1, len(said) - SHINGLE + 1)))
    return found


def similarity(one: set[str], other: set[str]) -> float:
    """Jaccard."""
    return len(one & other) / max(1, len(one | other))


def similar_pairs(rows: Sequence[Row], threshold: float) -> Iterator[tuple[int, int]]:
    """Positions of rows that are alike: candidates by MinHash, confirmed on the n-grams themselves."""
    from datasketch import MinHashLSH

    index: Any = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS)
    sets = [shingles(row) for row in rows]
    for position, found in enumerate(sets):
        sketch = _sketch(found)
        for other in sorted(index.query(sketch)):
            if similarity(found, sets[other]) >= threshold:
                yield other, position
        index.insert(position, sketch)


def without_duplicates(rows: Sequence[Row], threshold: float) -> tuple[list[Row], list[Dropped]]:
    """The rows less those that are like an earlier one that stays."""
    alike: dict[int, list[int]] = {}
    for earlier, later in similar_pairs(rows, threshold):
        alike.setdefault(later, []).append(earlier)
    gone: dict[int, str] = {}
    for position in sorted(alike):
        if any(other not in gone for other in alike[position]):
            first = next(other for other in alike[position] if other not in gone)
            exact = shingles(rows[first]) == shingles(rows[position])
            gone[position] = "the same" if exact else "nearly the same"
    kept = [row for position, row in enumerate(rows) if position not in gone]
    return kept, [Dropped("duplicates", reason, rows[position]) for position, reason in gone.items()]


def _sketch(found: set[str]) -> Any:
    from datasketch import MinHash

    sketch = MinHash(num_perm=PERMUTATIONS, seed=HASH_SEED)
    sketch.update_batch([one.encode() for one in sorted(found)])
    return sketch
