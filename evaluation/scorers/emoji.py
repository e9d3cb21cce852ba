"""Does the reply use the character's emoji and no more than allowed?"""

from __future__ import annotations

import regex

from evaluation.scorers.finding import HOLDS, Finding, broken
from personas.schema import Emoji

_GRAPHEME = regex.compile(r"\X")
_PICTURE = regex.compile(r"\p{Extended_Pictographic}|\p{Regional_Indicator}")
_NOT_EMOJI = frozenset("©®™〰〽㊗㊙")
_VARIATION = "\ufe0f"


def emoji_in(text: str) -> list[str]:
    """Every emoji of ``text``, one per picture that is seen (families and flags are one)."""
    return [found for found in _GRAPHEME.findall(text) if _PICTURE.search(found) and found[0] not in _NOT_EMOJI]


def emoji_rule(text: str, emoji: Emoji) -> Finding:
    """Whether all emoji are the character's and there are not too many."""
    found = emoji_in(text)
    allowed = {one.replace(_VARIATION, "") for one in emoji.allowed}
    if strange := [one for one in found if one.replace(_VARIATION, "") not in allowed]:
        return broken(f"another emoji: {' '.join(strange)}" if allowed else f"uses none: {' '.join(strange)}")
    if len(found) > emoji.max_per_reply:
        return broken(f"{len(found)} emoji, {emoji.max_per_reply} allowed")
    return HOLDS
