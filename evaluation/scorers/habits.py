"""Does the reply speak with another character's turns of phrase?"""

from __future__ import annotations

import re
from collections.abc import Sequence

from evaluation.matching import lowered
from evaluation.scorers.finding import HOLDS, Finding, broken


def foreign_habits(text: str, habits: Sequence[tuple[str, re.Pattern[str]]]) -> Finding:
    """Broken by the first turn of phrase that belongs to somebody else.

    Args:
        text: The reply.
        habits: Whose, and the pattern.
    """
    view = lowered(text)
    for owner, pattern in habits:
        if found := pattern.search(view):
            return broken(f"speaks like {owner}: {found.group().strip()!r}")
    return HOLDS


def calls_by_name(text: str, name: str) -> bool:
    """Whether the fan is called by name."""
    return name in text
