"""Guards for tests of other packages: no policies, no morphology."""

from __future__ import annotations

from core.contracts import Verdict


class FakeWatch:
    """Releases everything at once until a forbidden word turns up in the reply."""

    def __init__(self, forbidden: dict[str, str]) -> None:
        self._forbidden = forbidden
        self._text = ""
        self._verdict = Verdict.ok()

    @property
    def verdict(self) -> Verdict:
        return self._verdict

    def feed(self, text: str) -> str:
        if not self._verdict.allowed:
            return ""
        self._text += text
        self._verdict = _verdict_on(self._text, self._forbidden)
        return text if self._verdict.allowed else ""

    def finish(self) -> str:
        return ""


class FakeGuard:
    """Blocks texts that hold a word of ``forbidden`` (word → category), the same for every character."""

    def __init__(self, forbidden: dict[str, str] | None = None) -> None:
        self._forbidden = forbidden or {}
        self.checked: list[str] = []

    def check_input(self, text: str, persona: str) -> Verdict:
        self.checked.append(text)
        return _verdict_on(text, self._forbidden)

    def watch(self, persona: str) -> FakeWatch:
        return FakeWatch(self._forbidden)


def _verdict_on(text: str, forbidden: dict[str, str]) -> Verdict:
    for word, category in forbidden.items():
        if word in text:
            return Verdict(allowed=False, category=category, rule=word)
    return Verdict.ok()
