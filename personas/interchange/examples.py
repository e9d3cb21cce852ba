"""``mes_example`` of a card to seed dialogues, and seed dialogues back to it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from core.contracts import USER_MACRO
from personas.interchange.placeholders import resolve
from personas.seeds import SeedDialogue, SeedMessage

MAX_DIALOGUES = 500


def to_seeds(examples: str, name: str, persona_id: str) -> tuple[SeedDialogue, ...]:
    """Dialogues in which the fan begins and the character has the last word; the rest is left out."""
    blocks = re.split(r"(?i)<START>", examples)
    dialogues = [turns for block in blocks if (turns := _alternating(_spoken(block, name)))]
    return tuple(
        SeedDialogue(id=f"{persona_id}-example-{index:03d}", category="example", messages=tuple(turns))
        for index, turns in enumerate(dialogues[:MAX_DIALOGUES], start=1)
    )


def to_examples(dialogues: Iterable[SeedDialogue]) -> str:
    """Seed dialogues in the format of ``mes_example``."""
    speakers = {"user": USER_MACRO, "assistant": "{{char}}"}
    blocks = ["\n".join(f"{speakers[turn.role]}: {turn.content}" for turn in item.messages) for item in dialogues]
    return "\n".join(f"<START>\n{block}" for block in blocks)


def _spoken(block: str, name: str) -> list[SeedMessage]:
    """What each line that names a speaker says, with the lines that follow it."""
    found: list[tuple[Literal["user", "assistant"], list[str]]] = []
    for line in resolve(block, name).splitlines():
        if line.startswith(f"{USER_MACRO}:"):
            found.append(("user", [line.split(":", 1)[1]]))
        elif line.startswith(f"{name}:"):
            found.append(("assistant", [line[len(name) + 1 :]]))
        elif found:
            found[-1][1].append(line)
    said = [(role, "\n".join(lines).strip()) for role, lines in found]
    return [SeedMessage(role=role, content=text) for role, text in said if text]


def _alternating(turns: Sequence[SeedMessage]) -> list[SeedMessage]:
    kept: list[SeedMessage] = []
    for turn in turns:
        if kept and kept[-1].role == turn.role:
            kept[-1] = SeedMessage(role=turn.role, content=f"{kept[-1].content}\n{turn.content}")
        elif kept or turn.role == "user":
            kept.append(turn)
    return kept[:-1] if kept and kept[-1].role == "user" else kept
