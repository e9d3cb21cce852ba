"""What a character's ``card.yaml`` holds. The model is the documentation: a docstring under each field."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

SpeechLevel = Literal["banmal", "haeyo", "hapsyo"]


class CardModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Emoji(CardModel):
    allowed: tuple[str, ...] = ()
    """The only emoji that the character uses."""

    max_per_reply: int = Field(default=1, ge=0)


class Speech(CardModel):
    level: SpeechLevel
    """반말, 해요체 or 합쇼체: how the character's sentences end."""

    ratio: float = Field(default=0.9, ge=0, le=1)
    """Share of sentences expected in that level."""

    habits: tuple[str, ...] = ()
    """Turns of phrase that are this character's own."""

    emoji: Emoji = Emoji()


class PromptText(CardModel):
    persona: str = Field(min_length=1, max_length=4000)
    """First block of the prompt: who the character is. Short: the adapter carries style, retrieval facts."""

    safety: str = Field(min_length=1, max_length=4000)
    """Second block: what holds in every conversation."""


class SamplingDefaults(CardModel):
    temperature: float = Field(default=0.7, ge=0, le=2)
    top_p: float = Field(default=0.9, gt=0, le=1)
    max_tokens: int = Field(default=96, ge=1, le=4096)


class Card(CardModel):
    """One character."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")
    """Name of the folder, of the model on ``/v1``, and of the adapters."""

    display_name: str = Field(min_length=1)
    language: str = "ko"
    """Language that the character speaks unless asked otherwise (BCP 47)."""

    tagline: str = ""
    identity: dict[str, str | int] = Field(default_factory=dict)
    """Profile shown to people: name, age, birthday, position, group…"""

    traits: tuple[str, ...] = ()
    speech: Speech
    likes: tuple[str, ...] = ()
    dislikes: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    """Matters that the character does not talk about."""

    fan_alias: str = Field(min_length=1)
    """Stands in for the fan's name while it is not known."""

    greeting: str = Field(min_length=1)
    """Opens a session; may hold ``{{user}}``."""

    prompt: PromptText
    alternatives: dict[str, tuple[str, ...]]
    """In-character answers by block category; ``default`` must be there."""

    degraded: tuple[str, ...] = Field(min_length=1)
    """What the character says when she cannot answer for technical reasons."""

    sampling: SamplingDefaults = SamplingDefaults()

    @field_validator("alternatives")
    @classmethod
    def _has_default(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        if not value.get("default"):
            raise ValueError("needs a non-empty 'default' list")
        if empty := [category for category, lines in value.items() if not lines]:
            raise ValueError(f"these categories have no line: {', '.join(empty)}")
        return value
