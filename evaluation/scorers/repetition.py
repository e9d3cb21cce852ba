"""Does the reply run in circles, or repeat what was said before?"""

from __future__ import annotations

from collections.abc import Sequence

from evaluation.matching import squeezed
from evaluation.scorers.finding import HOLDS, Finding, broken
from safety.repetition import LoopDetector

GRAM = 4
MAX_REPEATED_SHARE = 0.4
_SHORTEST = 24
"""Letters below which a share of repeated n-grams says nothing."""

_SAME_AGAIN = 8
"""A reply of so many letters that comes again word for word is a repetition; a short yes is not."""


def repeated_share(text: str) -> float:
    """Share of character n-grams that have occurred before in ``text``; 0.0 for short texts."""
    letters = squeezed(text)
    grams = [letters[i : i + GRAM] for i in range(len(letters) - GRAM + 1)]
    if len(letters) < _SHORTEST:
        return 0.0
    return 1 - len(set(grams)) / len(grams)


def repetition(text: str, before: Sequence[str] = ()) -> Finding:
    """Broken by a loop, by too many repeated n-grams, or by an earlier reply said again.

    Args:
        text: The reply.
        before: The character's earlier replies in this conversation.
    """
    detector = LoopDetector()
    if any(detector.push(char) for char in text):
        return broken("runs in a loop")
    if (share := repeated_share(text)) > MAX_REPEATED_SHARE:
        return broken(f"{share:.0%} of its {GRAM}-grams are repeated")
    letters = squeezed(text)
    if len(letters) >= _SAME_AGAIN and letters in map(squeezed, before):
        return broken("says the same again")
    return HOLDS
