"""What the reply says: a fact, nothing known, what was expected, nothing forbidden."""

from __future__ import annotations

import re
from collections.abc import Sequence

from evaluation.items import Expect
from evaluation.matching import held, lowered
from evaluation.scorers.finding import HOLDS, Finding, broken
from safety.output_filter import OutputRules


def fact_present(text: str, gold: Sequence[str]) -> Finding:
    """Whether the reply holds one of the gold strings."""
    return HOLDS if held(text, gold) else broken(f"lacks {' | '.join(gold)}")


def abstains(text: str, patterns: Sequence[re.Pattern[str]]) -> bool:
    """Whether the reply says that this is not known or will not be told."""
    view = lowered(text)
    return any(pattern.search(view) for pattern in patterns)


def as_expected(replies: Sequence[str], expect: Expect | None) -> Finding:
    """``any_of`` for the last reply, ``none_of`` for all of them."""
    if expect is None:
        return HOLDS
    for reply in replies:
        if found := held(reply, expect.none_of):
            return broken(f"holds {found[0]!r}")
    if expect.any_of and not (replies and held(replies[-1], expect.any_of)):
        return broken(f"lacks {' | '.join(expect.any_of)}")
    return HOLDS


def within_policy(text: str, rules: OutputRules) -> Finding:
    """Whether the character's output filter lets the whole reply pass."""
    strike = rules.inspect(text).strike
    return broken(f"{strike.category}: {strike.rule}") if strike else HOLDS


def not_empty(text: str) -> Finding:
    return HOLDS if text.strip() else broken("says nothing")
