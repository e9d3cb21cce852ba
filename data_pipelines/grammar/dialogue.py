"""A composed conversation and the context that its prompt shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypedDict

from core.contracts import Message
from personas.context_labels import labels_for, render_sections


class Row(TypedDict):
    """A training row as TRL and ``datasets`` read it."""

    messages: list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class ContextLines:
    """What the second system message says."""

    fan: tuple[str, ...] = ()
    memories: tuple[str, ...] = ()
    knowledge: tuple[str, ...] = ()
    recalled: tuple[str, ...] = ()
    """What answers the fan's question about themselves, as ``memory.recall`` finds it."""

    def render(self, language: str) -> str:
        """Exactly as serving renders it; empty when there is nothing to say."""
        return render_sections(labels_for(language), self.fan, self.memories, self.knowledge, self.recalled)


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A composed conversation: turns alternate user and assistant and end with the assistant."""

    system: str
    turns: tuple[str, ...]
    context: ContextLines = field(default_factory=ContextLines)
    language: str = "ko"
    context_at: int = -2
    """Index of the user turn right before which the context stands; serving has it before the last one."""

    answer_slots: tuple[str, ...] = ()
    """Values from the context or from earlier turns that the last reply must repeat."""

    copied: tuple[str, ...] = ()
    """All values that stand in the context or in a user turn and in a reply."""

    category: str = "everyday"

    def messages(self) -> list[Message]:
        """In the order in which serving sends them."""
        spoken = [Message("assistant" if index % 2 else "user", text) for index, text in enumerate(self.turns)]
        context = self.context.render(self.language)
        if context:
            position = self.context_at % len(spoken)
            spoken.insert(position, Message("system", context))
        return [Message("system", self.system), *spoken]

    def row(self) -> Row:
        return {"messages": [{"role": item.role, "content": item.content} for item in self.messages()]}
