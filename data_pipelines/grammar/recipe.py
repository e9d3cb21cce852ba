"""How often what kind of conversation is composed, and how."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Shares:
    """How often each kind of conversation is composed, where a voice has what it needs; the rest is talk."""

    seeds: float = 0.10
    facts: float = 0.25
    """Questions on the knowledge base, with the passages that answer them."""

    told: float = 0.15
    """Facts that the fan tells and asks for some turns later."""

    drills: float = 0.12
    """Several questions in a row on one context."""

    recall: float = 0.13
    """One question whose answer stands in the context."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How conversations are composed; the defaults are what the shipped adapters were trained on."""

    shares: Shares = field(default_factory=Shares)
    made_up: float = 0.35
    """Share of slots that are filled with a word that does not exist."""

    alone: float = 0.4
    """Share of conversations without earlier turns."""

    max_history: int = 6
    """Most earlier exchanges."""

    fan_section: float = 0.5
    """Share of prompts that say something about the fan."""

    distractors: float = 0.5
    """Share of prompts with facts that the reply does not need."""

    unanswered: float = 0.05
    """Share of questions on the knowledge base whose passage is not in the context; the shipped base saw 0.12."""

    noise: float = 0.3
    """Share of user lines that are typed carelessly."""

    polite_users: float = 0.12
    """Share of Korean user lines that are put into 해요체."""

    brief: float = 0.0
    """Share of conversations with only the first sentence of the system prompt: a third of the tokens less."""
