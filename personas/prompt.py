"""The four-block prompt: System Persona, Safety Rules, Retrieved Context, Conversation.

What never changes for a persona comes first and what changes each turn comes last, so that the engine's
prefix cache serves all fans of a character. ``train_jobs`` renders training rows in exactly this shape.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from core.contracts import FanContext, Message, Passage
from personas.context_labels import ContextLabels, labels_for, render_sections
from personas.schema import Card

ContextPlacement = Literal["system_message", "user_message"]
TokenCount = Callable[[str], int]

# Role header and end-of-turn marks of ChatML and its relatives, with room to spare.
_TOKENS_PER_MESSAGE = 6


class PromptConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    max_prompt_tokens: int = Field(default=1024, ge=64)
    """Older turns, then passages, are left out until the prompt fits."""

    context_placement: ContextPlacement = "system_message"
    """``user_message`` is for chat templates that take no system message after the first (Mistral)."""

    max_summaries: int = Field(default=2, ge=0)
    max_memories: int = Field(default=4, ge=0)
    recalled_lines: int = Field(default=0, ge=0)
    """When the fan asks for what they told, only this many lines that answer are shown, in place of memories and
    of what was retrieved; 0 leaves the finding to the model. For models too small to find it."""

    names: Literal["macro", "plain"] = "macro"
    """``macro`` keeps ``{{user}}`` in the prompt; ``plain`` is for models that should see the name."""


def render_context(
    fan: FanContext | None,
    passages: Sequence[Passage],
    config: PromptConfig,
    labels: ContextLabels | None = None,
    recalled: Sequence[str] = (),
) -> str:
    """The context block; empty when there is nothing to say. What was ``recalled`` takes the place of memories."""
    labels = labels or labels_for("ko")
    fan_lines = labels.fan_lines(fan.profile if fan else None)
    memories = [p.text for p in passages if p.kind == "memory" and not recalled]
    if fan and not recalled:
        # The same fact may come back from both stores; the first one counts.
        memories += [*fan.memories[: config.max_memories], *fan.summaries[: config.max_summaries]]
    knowledge = [p.text for p in passages if p.kind == "knowledge"]
    return render_sections(labels, fan_lines, list(dict.fromkeys(memories)), knowledge, recalled)


def system_prompt(card: Card) -> str:
    """The first two blocks, System Persona and Safety Rules: the same for every fan and turn."""
    return f"{card.prompt.persona.strip()}\n{card.prompt.safety.strip()}"


def build_prompt(
    card: Card,
    history: Sequence[Message],
    message: str,
    fan: FanContext | None,
    passages: Sequence[Passage],
    config: PromptConfig,
    count_tokens: TokenCount,
    recalled: Sequence[str] = (),
) -> list[Message]:
    """Assemble the prompt and leave out what does not fit, oldest turns first."""
    system = Message("system", system_prompt(card))
    labels = labels_for(card.language)
    kept_history, kept_passages = list(history), list(passages)
    while True:
        context = render_context(fan, kept_passages, config, labels, recalled)
        prompt = [system, *kept_history, *_last_messages(context, message, config.context_placement)]
        size = sum(count_tokens(m.content) + _TOKENS_PER_MESSAGE for m in prompt)
        if size <= config.max_prompt_tokens:
            return prompt
        if kept_history:
            # A turn is two messages; an odd rest (a greeting) goes alone.
            del kept_history[: 2 if len(kept_history) >= 2 else 1]
        elif kept_passages:
            kept_passages.pop()
        elif fan is not None:
            fan = None
        else:
            return prompt


def _last_messages(context: str, message: str, placement: ContextPlacement) -> list[Message]:
    if not context:
        return [Message("user", message)]
    if placement == "user_message":
        return [Message("user", f"{context}\n\n{message}")]
    return [Message("system", context), Message("user", message)]
