"""Every row must render as ChatML with something to learn in it, and with the token that ends a turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.errors import ConfigurationError
from data_pipelines.rows import Row
from data_pipelines.stages.base import Outcome, RowStage


def load_tokenizer(base: str) -> Any:
    """The base model's tokenizer; ``base`` is a folder or a hub name."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(base)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigurationError(f"base_model: no tokenizer of {base} can be loaded: {reason}") from error


def marked_template(tokenizer: Any) -> str:
    """A chat template with marks around what the assistant says."""
    template = tokenizer.chat_template
    if isinstance(template, str) and "endgeneration" in template:
        return template
    from trl.chat_template_utils import get_training_chat_template

    try:
        return get_training_chat_template(tokenizer) or template
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigurationError("the base's chat template has no {% generation %} marks: add them") from error


def rendering(tokenizer: Any, system_prompt: str, max_tokens: int) -> RowStage:
    """Drops rows that are too long, or from which a model would not learn to answer or to stop."""
    template = marked_template(tokenizer)

    def stage(row: Row) -> Outcome:
        messages = [{"role": turn.role, "content": turn.content} for turn in row.messages]
        encoded: Mapping[str, list[int]] = tokenizer.apply_chat_template(
            [{"role": "system", "content": system_prompt}, *messages],
            chat_template=template,
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
        if len(encoded["input_ids"]) > max_tokens:
            return Outcome.drop("too many tokens")
        wrong = mask_fault(encoded["input_ids"], encoded["assistant_masks"], tokenizer.eos_token_id)
        return Outcome.drop(wrong) if wrong else Outcome.keep(row)

    return stage


def mask_fault(tokens: Sequence[int], mask: Sequence[int], end_of_turn: int) -> str | None:
    """What is wrong with a loss mask: nothing to learn, or a turn that never ends."""
    after = [*mask[1:], 0]
    ends = [token for token, learned, follows in zip(tokens, mask, after, strict=True) if learned and not follows]
    if not ends:
        return "nothing to learn"
    return "end of turn is not learned" if any(token != end_of_turn for token in ends) else None
