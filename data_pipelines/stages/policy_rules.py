"""Meta talk and profanity, judged by the rules that also watch live replies."""

from __future__ import annotations

from collections.abc import Sequence

import regex

from data_pipelines.rows import Row
from data_pipelines.stages.base import Outcome, RowStage
from safety.normalise import normalise
from safety.policy import Policy, Rule

META_CATEGORIES = frozenset({"meta_leak", "control_token"})
PROMPT_RUN = 18
"""A reply that repeats so many characters of the system prompt leaks it."""

_NO_WORD = regex.compile(r"[\W_]+")


def meta_talk(policy: Policy, system_prompt: str) -> RowStage:
    """Drops replies that speak of models and prompts. A character who turns such questions away is none of them."""
    judge = _Judge([rule for rule in policy.rules if "output" in rule.sides and rule.category in META_CATEGORIES])
    runs = _runs(_squeezed(system_prompt))

    def stage(row: Row) -> Outcome:
        for reply in row.texts("assistant"):
            if rule := judge(reply):
                return Outcome.drop(rule)
            if runs & _runs(_squeezed(reply)):
                return Outcome.drop("repeats the system prompt")
        return Outcome.keep(row)

    return stage


def profanity(policy: Policy) -> RowStage:
    """Drops replies that the character's own output rules would stop."""
    judge = _Judge([rule for rule in policy.rules if "output" in rule.sides and rule.category not in META_CATEGORIES])

    def stage(row: Row) -> Outcome:
        found = next((rule for reply in row.texts("assistant") if (rule := judge(reply))), None)
        return Outcome.drop(found) if found else Outcome.keep(row)

    return stage


class _Judge:
    """Names the first rule that strikes."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = [rule.compiled() for rule in rules]

    def __call__(self, text: str) -> str | None:
        view = normalise(text).text
        return next((f"{rule.category}: {rule.id}" for rule in self._rules if rule.find(view)), None)


def _squeezed(text: str) -> str:
    return _NO_WORD.sub("", text.casefold())


def _runs(text: str) -> set[str]:
    return {text[start : start + PROMPT_RUN] for start in range(len(text) - PROMPT_RUN + 1)}
