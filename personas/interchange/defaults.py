"""What our cards need and the published formats lack, by language; from ``defaults.yaml``."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

import yaml

from personas.base import CardModel
from personas.schema import SpeechLevel

Language = Literal["ko", "ja", "en"]


class LanguageDefaults(CardModel):
    """One language; ``{name}`` in a text stands for the character's name."""

    speech: SpeechLevel
    """How the character talks until somebody decides."""

    fan_alias: str
    """Stands in for a fan's name."""

    persona: str
    """For cards that describe nobody."""

    greeting: str
    """For cards without one."""

    style: str
    """Opens the part of the persona that the card's instructions make."""

    safety: str
    """The safety block."""

    alternatives: dict[str, tuple[str, ...]]
    """Answers by block category."""

    degraded: tuple[str, ...]
    """Lines for technical trouble."""

    def named(self, name: str) -> LanguageDefaults:
        """All texts with the name in them."""
        lines = {category: _named(texts, name) for category, texts in self.alternatives.items()}
        texts = {key: getattr(self, key).replace("{name}", name) for key in ("persona", "greeting", "safety")}
        return self.model_copy(update={**texts, "alternatives": lines})


def _named(texts: tuple[str, ...], name: str) -> tuple[str, ...]:
    return tuple(text.replace("{name}", name) for text in texts)


@lru_cache(maxsize=1)
def all_defaults() -> dict[Language, LanguageDefaults]:
    raw = yaml.safe_load((Path(__file__).parent / "defaults.yaml").read_text(encoding="utf-8"))
    return {language: LanguageDefaults.model_validate(raw[language]) for language in get_args(Language)}


def guess_language(text: str) -> Language:
    """By script: the formats do not name a language."""
    hangul, kana = len(re.findall("[가-힣]", text)), len(re.findall("[ぁ-ヿ]", text))
    if max(hangul, kana) * 4 < len(re.findall("[A-Za-z]", text)):
        return "en"
    if hangul or kana:
        return "ko" if hangul >= kana else "ja"
    return "ja" if re.search("[一-龯]", text) else "en"
