"""Rows for a data set: conversations of one kind, without the system prompt, which training puts before them.

Retrieved facts belong into retrieval and not into weights, so most rows have no context. Those that do are reading
exercises (style tag ``reads_context``): a small model forgets how to read when it is tuned on talk alone.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypedDict

from core.errors import ConfigurationError
from data_pipelines.grammar.asking_back import asked_back
from data_pipelines.grammar.composer import Composer, row_rng
from data_pipelines.grammar.dialogue import Dialogue
from data_pipelines.grammar.voices import Voice, character_voice
from data_pipelines.rows import READS_CONTEXT, kind_of

Draw = Callable[[random.Random], Dialogue]
"""Composes one conversation."""

HANGUL = re.compile("[가-힣]")

READING = 0.75
"""Share of worldview and multilingual rows that are questions with passages to read."""

TOLD = 0.1
"""Share of persona rows in which the fan tells something and asks for it later."""

ASKED_BACK = 0.28
"""Share of persona rows in which the fan asks for something that serving recalls."""


class ComposedRow(TypedDict):
    """What the pipeline takes over from the grammar."""

    category: str
    messages: list[dict[str, str]]
    style_tags: list[str]


def compose(character: str, kind: str, count: int, seed: int) -> list[ComposedRow]:
    """``count`` conversations of ``kind``; row ``i`` depends on character, kind, seed and ``i`` alone.

    Raises ``ConfigurationError`` for a kind that the character has nothing for.
    """
    voice = character_voice(character)
    draw = _drawer(voice, kind)
    return [_row(draw(row_rng(seed, f"{character}:{kind}", index))) for index in range(count)]


def _row(dialogue: Dialogue) -> ComposedRow:
    messages = dialogue.row()["messages"][1:]
    reads = any(message["role"] == "system" for message in messages)
    tags = [tag for tag, holds in ((READS_CONTEXT, reads), ("multi_turn", len(dialogue.turns) > 2)) if holds]
    return {"category": dialogue.category, "messages": messages, "style_tags": tags}


def _drawer(voice: Voice, kind: str) -> Draw:
    """How one conversation of ``kind`` is drawn."""
    composer = Composer(voice)
    chosen = [intent for intent in voice.intents if kind_of(intent.category) == kind]
    special = _special(voice, composer, kind)
    if not chosen and not special:
        raise ConfigurationError(f"{voice.name}: no intents of the kind {kind!r} under its folder intents/")
    rest = 1.0 - sum(special.values()) if chosen else 0.0

    def from_intent(rng: random.Random) -> Dialogue:
        return composer.from_intent(rng.choice(chosen), rng)

    ways = {**special, from_intent: rest}

    def draw(rng: random.Random) -> Dialogue:
        return rng.choices(list(ways), list(ways.values()))[0](rng)

    return draw


def _special(voice: Voice, composer: Composer, kind: str) -> dict[Draw, float]:
    """What a kind has besides its intents, and how often."""
    if kind == "persona":
        told: dict[Draw, float] = {composer.told: TOLD} if composer.tellable else {}
        quotes: dict[Draw, float] = {partial(asked_back, composer): ASKED_BACK} if voice.quoting.asked_back else {}
        return {**told, **quotes}
    facts = voice.facts if kind == "worldview" else ()
    if kind == "multilingual":
        facts = tuple(item for item in voice.facts if not HANGUL.search(item.fact.ask[0]))
    reader = Composer(replace(voice, facts=facts))
    return {reader.from_facts: READING} if facts else {}
