"""One batch out of the conversations of several slots: packed, and with each slot's tokens side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from train_jobs.qlora.data import IGNORED, EncodedRow

PADDING = 0
"""Any token will do: nothing that counts attends to it."""


@dataclass(frozen=True, slots=True)
class MixedBatch:
    """Sequences of several slots. Counted over the flat token axis (sequences × width), a slot is one slice."""

    input_ids: Any
    """(sequences, width), int64."""

    position_ids: Any
    """(sequences, width), int64; they begin again with each conversation, which is how Transformers finds borders."""

    targets: Any
    """(targets,), flat places of the tokens whose successor is learned; slot after slot."""

    labels: Any
    """(targets,), these successors."""

    spans: tuple[slice, ...]
    """Flat tokens of each slot."""

    target_counts: tuple[int, ...]
    """Targets of each slot."""

    token_counts: tuple[int, ...]
    """Real tokens of each slot."""

    order: Any
    """(sequences × width,): the number of each token if its slot's conversations were laid end to end as they were
    given; 0 for padding. What is drawn by this number does not depend on how the batch was packed."""


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Indices of ``lengths`` in bins of at most ``capacity``, best fit decreasing (Johnson 1973).

    TRL packs a whole data set beforehand, so that the packing decides which conversations share a step. Here the
    seed decides that, and only the rows of one pass are packed.
    """
    bins: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        fitting = [place for place, left in enumerate(room) if left >= lengths[index]]
        if not fitting:
            fitting = [len(bins)]
            bins.append([])
            room.append(capacity)
        best = min(fitting, key=room.__getitem__)
        bins[best].append(index)
        room[best] -= lengths[index]
    return bins


@dataclass(slots=True)
class _Tokens:
    """The flat token axis while it grows."""

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)

    def add(self, row: EncodedRow, number: int) -> None:
        """A conversation whose first token is the slot's ``number``-th. Its first token is nobody's successor."""
        start, length = len(self.ids), len(row.input_ids)
        learned = [place for place in range(1, length) if row.labels[place] != IGNORED]
        self.ids += row.input_ids
        self.positions += range(length)
        self.order += range(number, number + length)
        self.targets += [start + place - 1 for place in learned]
        self.labels += [row.labels[place] for place in learned]

    def pad(self, width: int) -> None:
        """Fill the last sequence. Positions go on, so that a sequence of one conversation stays plainly causal and
        the attention kernel needs no mask."""
        missing = -len(self.ids) % width
        self.ids += [PADDING] * missing
        self.positions += range(self.positions[-1] + 1, self.positions[-1] + 1 + missing)
        self.order += [0] * missing


def collate(shares: Sequence[Sequence[EncodedRow]], *, flat: bool = False, device: Any = "cpu") -> MixedBatch:
    """The batch of one pass.

    Sequences are as wide as the longest conversation of all slots: attention is dense over the width unless the
    kernel is FlashAttention, and a wider sequence would only add what the mask takes away again.

    Args:
        shares: Each slot's conversations; none of them empty.
        flat: One sequence of all conversations without padding, the layout from which FlashAttention reads borders.
    """
    import torch

    lengths = [[len(row.input_ids) for row in rows] for rows in shares]
    width = sum(map(sum, lengths)) if flat else max(map(max, lengths))
    tokens, spans, counts = _Tokens(), [], []
    for rows, sizes in zip(shares, lengths, strict=True):
        start, known = len(tokens.ids), len(tokens.targets)
        for sequence in [list(range(len(rows)))] if flat else best_fit(sizes, width):
            for index in sequence:
                tokens.add(rows[index], number=sum(sizes[:index]))
            if not flat:
                tokens.pad(width)
        spans.append(slice(start, len(tokens.ids)))
        counts.append(len(tokens.targets) - known)

    def tensor(values: list[int]) -> Any:
        return torch.tensor(values, dtype=torch.long, device=device)

    return MixedBatch(
        input_ids=tensor(tokens.ids).view(-1, width),
        position_ids=tensor(tokens.positions).view(-1, width),
        targets=tensor(tokens.targets),
        labels=tensor(tokens.labels),
        spans=tuple(spans),
        target_counts=tuple(counts),
        token_counts=tuple(map(sum, lengths)),
        order=tensor(tokens.order),
    )
