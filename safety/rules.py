"""A rule, compiled: where it strikes in canonical text and where a strike may be about to begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import regex

TIMEOUT_S = 0.5
"""Longest time for one pattern; beyond it the check fails closed."""

_BLANK = "\x00"


@dataclass(frozen=True, slots=True)
class Span:
    start: int
    end: int


class CompiledRule:
    """Patterns that strike, except where an ``unless`` pattern explains the words away."""

    def __init__(self, rule_id: str, category: str, patterns: Sequence[str], unless: Sequence[str]) -> None:
        self.id = rule_id
        self.category = category
        # One by one: each is then skipped by its required characters, which one big alternation is not.
        self._patterns = [regex.compile(pattern) for pattern in patterns]
        self._unless = [regex.compile(pattern) for pattern in unless]

    def find(self, text: str, since: int = 0) -> Span | None:
        """The first strike that begins at or after ``since``."""
        return min(self._spans(text, since, partial=False), key=lambda span: span.start, default=None)

    def opening(self, text: str, since: int = 0) -> int:
        """Where a strike begins that more text could complete; the end of ``text`` if there is none."""
        return min((span.start for span in self._spans(text, since, partial=True)), default=len(text))

    def _spans(self, text: str, since: int, partial: bool) -> list[Span]:
        """The first match of each pattern. Benign phrases are looked for only once there is one."""
        found = self._search(text, since, partial)
        if not found:
            return found
        benign = text
        for pattern in self._unless:
            benign = pattern.sub(lambda match: _BLANK * len(match.group()), benign, timeout=TIMEOUT_S)
        return found if benign == text else self._search(benign, since, partial)

    def _search(self, text: str, since: int, partial: bool) -> list[Span]:
        matches = (p.search(text, since, timeout=TIMEOUT_S, partial=partial) for p in self._patterns)
        return [Span(*match.span()) for match in matches if match and match.start() < len(text)]
