"""Several conversations in one sequence, and batches in which none of them sees another.

TRL packs (best fit, longest first). What is ours is the batch: Transformers finds the borders in ``position_ids``,
which begin again with each conversation, and masks attention across them, but only where no ``attention_mask`` is
given (``transformers.masking_utils``). TRL would lay the whole batch into one row for that, whose attention costs the
square of its length wherever the kernel is not FlashAttention; here it keeps the shape (batch, length).

Imports Transformers on top, so only worker processes import it.
"""

from __future__ import annotations

from typing import Any

from trl import pack_dataset
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from train_jobs.qlora.config import QLoraConfig
from train_jobs.qlora.data import IGNORED

Batch = dict[str, Any]


def packed(rows: Any, max_length: int) -> Any:
    """Sequences of at most ``max_length`` tokens out of whole conversations.

    Args:
        rows: ``datasets.Dataset`` with ``input_ids`` and ``labels``; none longer than ``max_length``.

    Returns:
        The same columns, one row a sequence, and ``seq_lengths``: how long each of its conversations is.
    """
    columns = rows.select_columns(["input_ids", "labels"])
    # One batch: by default every thousand rows are packed on their own.
    return pack_dataset(columns, max_length, "bfd", {"batch_size": len(columns)})


class PackedCollator:
    """Batches of packed rows as (batch, length) tensors without an attention mask; other rows as TRL pads them."""

    def __init__(self, pad_token_id: int) -> None:
        self._pad = DataCollatorForLanguageModeling(pad_token_id, return_position_ids=True)

    def __call__(self, examples: list[Batch]) -> Batch:
        batch: Batch = self._pad(examples)
        if "seq_lengths" in examples[0]:
            del batch["attention_mask"]
            # The last token of a conversation must not be asked for the first one of the next. Padding lies at
            # position 0 too: each padding token is a conversation of its own, which nothing is learned from.
            batch["labels"][batch["position_ids"] == 0] = IGNORED
        return batch


def collator(config: QLoraConfig, pad_token_id: int) -> Any:
    """How rows become a batch. FlashAttention reads borders from one flat row only, at no cost for its length."""
    if not config.packing:
        return DataCollatorForLanguageModeling(pad_token_id)
    if config.attention == "flash_attention_2":
        return DataCollatorForLanguageModeling(pad_token_id, padding_free=True)
    return PackedCollator(pad_token_id)


def conversations(batch: Batch) -> list[list[int]]:
    """The token ids of each conversation in a batch, packed or padded, without the padding."""
    if "attention_mask" in batch:
        pairs = zip(batch["input_ids"], batch["attention_mask"], strict=True)
        return [ids[mask.bool()].tolist() for ids, mask in pairs]
    found: list[list[int]] = []
    for ids, positions in zip(batch["input_ids"].tolist(), batch["position_ids"].tolist(), strict=True):
        for token, position in zip(ids, positions, strict=True):
            if position == 0:
                found.append([])
            found[-1].append(token)
    return [tokens for tokens in found if len(tokens) > 1]


def real_tokens(batch: Batch) -> int:
    """Tokens of a batch that are no padding. A conversation has at least two tokens, a padding token stands alone."""
    if "attention_mask" in batch:
        return int(batch["attention_mask"].sum())
    positions = batch["position_ids"]
    return int((positions > 0).sum() + (positions == 1).sum())
