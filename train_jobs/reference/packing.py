"""Documents as token ids with a loss weight per token, packed into rows without cutting them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

POOL = 48
"""Documents that wait for a row they fit into."""


@dataclass(frozen=True, slots=True)
class Document:
    """Token ids and how much the loss on each of them counts."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]

    def cut(self, length: int) -> Document:
        return Document(self.ids[:length], self.weights[:length])

    def stressing(self, values: Sequence[tuple[int, ...]], weight: float) -> Document:
        """The same with ``weight`` on every run of tokens that is one of ``values``, where the loss counts fully."""
        weights = list(self.weights)
        for value in values:
            size = len(value)
            for start in range(len(self.ids) - size + 1 if size else 0):
                if self.ids[start : start + size] == value and weights[start] >= 1:
                    weights[start : start + size] = [weight] * size
        return Document(self.ids, tuple(weights))


@dataclass(frozen=True, slots=True)
class Batch:
    """Packed rows: ``inputs``, what comes next, how much it counts, and which document a token belongs to."""

    inputs: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    documents: torch.Tensor

    @property
    def bias(self) -> torch.Tensor:
        """Additive attention mask: a token sees its own document up to itself."""
        import torch

        length = self.inputs.shape[1]
        same = self.documents[:, :, None] == self.documents[:, None, :]
        seen = same & torch.ones(length, length, dtype=torch.bool).tril()
        return torch.zeros(seen.shape, dtype=torch.bfloat16).masked_fill_(~seen, float("-inf"))[:, None]


def chat_document(tokenizer: Any, messages: Sequence[dict[str, str]], context_weight: float) -> Document:
    """A conversation: replies and their end of turn count fully, everything else ``context_weight``."""
    encoded = tokenizer.apply_chat_template(list(messages), return_dict=True, return_assistant_tokens_mask=True)
    spoken = encoded["assistant_masks"]
    return Document(tuple(encoded["input_ids"]), tuple(1.0 if said else context_weight for said in spoken))


def text_document(tokenizer: Any, text: str, weight: float) -> Document:
    """Plain text, ended by the end-of-text token."""
    ids = [*tokenizer(text)["input_ids"], tokenizer.pad_token_id]
    return Document(tuple(ids), (weight,) * len(ids))


def fill_row(pool: list[Document], documents: Iterator[Document], length: int) -> list[Document]:
    """Take documents out of ``pool`` (topped up from ``documents``) until no other fits: best fit first."""
    row: list[Document] = []
    room = length
    while room > 0:
        while len(pool) < POOL:
            pool.append(next(documents).cut(length))
        fitting = [index for index, document in enumerate(pool) if len(document.ids) <= room]
        if not fitting:
            break
        # The first of a row is the oldest, so that long documents do not wait for ever.
        best = 0 if not row else max(fitting, key=lambda index: len(pool[index].ids))
        document = pool.pop(best)
        row.append(document)
        room -= len(document.ids)
    return row


def collate(rows: Sequence[Sequence[Document]], length: int, padding: int) -> Batch:
    """Rows of documents as tensors; the last token of a document predicts nothing."""
    import torch

    shape = (len(rows), length)
    inputs = torch.full(shape, padding, dtype=torch.long)
    targets = torch.full(shape, padding, dtype=torch.long)
    weights = torch.zeros(shape)
    documents = torch.full(shape, -1, dtype=torch.int32)
    for row_index, row in enumerate(rows):
        start = 0
        for number, document in enumerate(row):
            end = start + len(document.ids)
            inputs[row_index, start:end] = torch.tensor(document.ids)
            targets[row_index, start : end - 1] = torch.tensor(document.ids[1:])
            weights[row_index, start : end - 1] = torch.tensor(document.weights[1:])
            documents[row_index, start:end] = number
            start = end
    return Batch(inputs, targets, weights, documents)
