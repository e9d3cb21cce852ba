"""What a character's ``card.yaml`` holds. The model is the documentation: a docstring under each field."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from personas.base import CardModel, Extensions
from personas.lorebook import Lorebook

SpeechLevel = Literal["banmal", "haeyo", "hapsyo", "teinei", "tameguchi", "none"]


class Emoji(CardModel):
    allowed: tuple[str, ...] = ()
    """The only emoji that the character uses."""

    max_per_reply: int = Field(default=1, ge=0)
    """How many of them one reply may hold."""


class Speech(CardModel):
    level: SpeechLevel
    """How the character's sentences end. Korean: 반말, 해요체 or 합쇼체; Japanese: です・ます (``teinei``) or plain
    (``tameguchi``); ``none`` for languages without levels."""

    ratio: float = Field(default=0.9, ge=0, le=1)
    """Share of sentences expected in that level."""

    habits: tuple[str, ...] = ()
    """Turns of phrase that are this character's own."""

    emoji: Emoji = Emoji()
    """Which emoji, and how many."""


class PromptText(CardModel):
    persona: str = Field(min_length=1, max_length=4000)
    """First block of the prompt: who the character is. Short: the adapter carries style, retrieval facts."""

    safety: str = Field(min_length=1, max_length=4000)
    """Second block: what holds in every conversation."""


class SamplingDefaults(CardModel):
    temperature: float = Field(default=0.7, ge=0, le=2)
    """How freely tokens are drawn; 0 takes the likeliest."""

    top_p: float = Field(default=0.9, gt=0, le=1)
    """Only the likeliest tokens of this share are drawn from."""

    max_tokens: int = Field(default=96, ge=1, le=4096)
    """Where a reply is cut."""


class Card(CardModel):
    """One character."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")
    """Name of the folder, of the model on ``/v1``, and of the adapters."""

    display_name: str = Field(min_length=1)
    """What people call the character."""

    language: str = "ko"
    """Language that the character speaks unless asked otherwise (BCP 47); also labels the prompt's context."""

    tagline: str = ""
    """One line under the name in listings."""

    identity: dict[str, str | int] = Field(default_factory=dict)
    """Profile shown to people: name, age, birthday, position, group…"""

    traits: tuple[str, ...] = ()
    """What the character is like."""

    speech: Speech
    """How the character talks."""

    likes: tuple[str, ...] = ()
    """What the character is fond of."""

    dislikes: tuple[str, ...] = ()
    """What the character avoids."""

    forbidden: tuple[str, ...] = ()
    """Matters that the character does not talk about."""

    fan_alias: str = Field(min_length=1)
    """Stands in for the fan's name while it is not known."""

    greeting: str = Field(min_length=1)
    """Opens a session; may hold ``{{user}}``."""

    prompt: PromptText
    """The two blocks that open every prompt."""

    alternatives: dict[str, tuple[str, ...]]
    """In-character answers by block category; ``default`` must be there."""

    degraded: tuple[str, ...] = Field(min_length=1)
    """What the character says when she cannot answer for technical reasons."""

    sampling: SamplingDefaults = SamplingDefaults()
    """Used where a request does not say otherwise."""

    lorebook: Lorebook | None = None
    """Knowledge that enters the prompt when its keys are said."""

    extensions: Extensions = Field(default_factory=dict)
    """Data of other programs and of imported cards: kept for export, never read into a prompt."""

    @field_validator("alternatives")
    @classmethod
    def _has_default(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        if not value.get("default"):
            raise ValueError("needs a non-empty 'default' list")
        if empty := [category for category, lines in value.items() if not lines]:
            raise ValueError(f"these categories have no line: {', '.join(empty)}")
        return value
