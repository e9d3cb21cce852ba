"""What every detector of personal data has in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import regex

PiiKind = Literal["email", "phone", "resident_id", "bank_account", "card", "address"]

TIMEOUT_S = 0.5


@dataclass(frozen=True, slots=True)
class Finding:
    """Personal data at ``text[start:end]``. ``confidence`` is 1.0 when a checksum or a context proves it."""

    kind: PiiKind
    start: int
    end: int
    confidence: float = 1.0


class Detector(Protocol):
    kind: PiiKind

    def find(self, text: str) -> list[Finding]:
        """All findings, in order of their start."""
        ...

    def opening(self, text: str, since: int = 0) -> int:
        """Where personal data may begin that more text would complete; the end of ``text`` if nowhere."""
        ...


class PatternDetector:
    """A pattern whose match (or its group ``value``) counts when ``judge`` is confident about it.

    Args:
        kind: What is found.
        pattern: Verbose regular expression over the original text.
        judge: Gives the confidence in a match's value; 0 drops it.
    """

    def __init__(self, kind: PiiKind, pattern: str, judge: Callable[[str], float] = lambda value: 1.0) -> None:
        self.kind: PiiKind = kind
        self._pattern = regex.compile(pattern, regex.VERBOSE)
        self._group = "value" if "value" in self._pattern.groupindex else 0
        self._judge = judge

    def find(self, text: str) -> list[Finding]:
        findings = []
        for match in self._pattern.finditer(text, timeout=TIMEOUT_S):
            confidence = self._judge(match.group(self._group))
            if confidence > 0:
                findings.append(Finding(self.kind, *match.span(self._group), confidence))
        return findings

    def opening(self, text: str, since: int = 0) -> int:
        match = self._pattern.search(text, since, timeout=TIMEOUT_S, partial=True)
        while match and not match.partial and match.end() < len(text):
            since = max(match.end(), since + 1)
            match = self._pattern.search(text, since, timeout=TIMEOUT_S, partial=True)
        return match.start() if match else len(text)


def digits_of(value: str) -> str:
    return "".join(c for c in value if c.isdigit())
