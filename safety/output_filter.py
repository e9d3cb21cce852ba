"""What a character says: a hold-back window that releases only what no rule can still object to.

Text is examined at *checkpoints*: places that depend on the text alone, never on how it was cut into
chunks, so that the released text is the same for every chunking. At a checkpoint each rule says whether it
strikes and where a strike could be about to begin; text from there on stays back. So the beginning of a
forbidden word is never shown, and harmless text flows on at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from core.contracts import Verdict
from core.logs import get_logger
from safety.normalise import Normalised, is_boundary, normalise
from safety.pii import Detector, detectors
from safety.policy import Policy
from safety.repetition import LoopDetector
from safety.rules import CompiledRule

_SENTENCE_ENDS = ".!?~…。！？\n"

SpeechJudge = Callable[[str], Verdict]
"""Judges the speech level of a whole reply."""


class OutputConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    first_window_chars: int = Field(default=8, ge=1)
    """Nothing is released before this many characters were generated (or the reply ended)."""

    max_hold_chars: int = Field(default=16, ge=1)
    """After the first window text is examined at sentence ends and at least this often."""

    settle_chars: int = Field(default=12, ge=1)
    """A strike counts once so much text follows: until then a benign phrase may still explain it."""

    context_chars: int = Field(default=160, ge=32)
    """Released text that stays in view, for phrases that lie across a release."""

    min_pii_confidence: float = Field(default=0.5, ge=0, le=1)
    """Findings of personal data below this confidence are let through."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """``clear`` is the length of the text that may be shown; ``strike`` stops the reply."""

    clear: int
    strike: Verdict | None = None


class OutputRules:
    """One character's rules for replies, compiled. Stateless: shared by all streams."""

    def __init__(self, policy: Policy, config: OutputConfig) -> None:
        self._rules: Sequence[CompiledRule] = policy.compiled("output")
        self._detectors: Sequence[Detector] = detectors(policy.pii_in_output)
        self._config = config

    def inspect(self, text: str, since: int = 0, final: bool = True) -> Inspection:
        """Examine ``text``, of which ``text[:since]`` has been shown.

        Args:
            text: The reply so far, or its last part.
            since: Where unseen text begins.
            final: Whether the reply ends here; otherwise its end may still grow into something else.
        """
        view = normalise(text)
        from_index = view.index_of(since)
        strike = self._rule_strike(view, from_index, final) or self._pii_strike(text, since, final)
        if strike:
            return Inspection(clear=since, strike=strike)
        if final:
            return Inspection(clear=len(text))
        return Inspection(clear=self._clear_length(text, since, view, from_index))

    def _rule_strike(self, view: Normalised, since: int, final: bool) -> Verdict | None:
        settled = len(view.text) if final else len(view.text) - self._config.settle_chars
        for rule in self._rules:
            span = rule.find(view.text, since)
            if span and span.end <= settled:
                return Verdict(allowed=False, category=rule.category, rule=rule.id)
        return None

    def _pii_strike(self, text: str, since: int, final: bool) -> Verdict | None:
        settled = len(text) if final else len(text) - self._config.settle_chars
        for detector in self._detectors:
            for finding in detector.find(text):
                sure = finding.confidence >= self._config.min_pii_confidence
                if sure and finding.start >= since and finding.end <= settled:
                    return Verdict(allowed=False, category="personal_data", rule=f"pii-{finding.kind}")
        return None

    def _clear_length(self, text: str, since: int, view: Normalised, from_index: int) -> int:
        clear = min(
            [view.original(rule.opening(view.text, from_index)) for rule in self._rules]
            + [detector.opening(text, since) for detector in self._detectors]
            + [f.start for detector in self._detectors for f in detector.find(text) if f.start >= since],
            default=len(text),
        )
        while since < clear < len(text) and (strike_at := self._strike_start(text[:clear], since)) is not None:
            clear = min(strike_at, clear - 1)  # cut here, the text would read as something forbidden
        return max(clear, since)

    def _strike_start(self, text: str, since: int) -> int | None:
        view = normalise(text)
        spans = [rule.find(view.text, view.index_of(since)) for rule in self._rules]
        starts = [view.original(span.start) for span in spans if span]
        starts += [f.start for d in self._detectors for f in d.find(text) if f.start >= since]
        return min(starts, default=None)


class HoldBackWindow:
    """``core.contracts.StreamWatch`` over one reply."""

    def __init__(self, rules: OutputRules, config: OutputConfig, speech: SpeechJudge | None = None) -> None:
        self._rules = rules
        self._config = config
        self._speech = speech
        self._loop = LoopDetector()
        self._text = ""
        self._released = 0
        self._checked = 0
        self._verdict = Verdict.ok()
        self._log = get_logger("guard")

    @property
    def verdict(self) -> Verdict:
        return self._verdict

    def feed(self, text: str) -> str:
        """Take newly generated text; return what may be shown now."""
        before = self._released
        for char in text:
            if not self._verdict.allowed:
                break
            self._take(char)
        return self._text[before : self._released]

    def finish(self) -> str:
        """The reply is complete; return what is still held back and passed."""
        before = self._released
        if self._verdict.allowed:
            self._examine(final=True)
        if self._verdict.allowed and self._speech:
            self._verdict = self._guarded(lambda: self._judge_speech(before))
        return self._text[before : self._released]

    def _take(self, char: str) -> None:
        self._text += char
        if self._loop.push(char):
            self._verdict = Verdict(allowed=False, category="repetition", rule="loop")
        elif self._at_checkpoint():
            self._examine(final=False)

    def _at_checkpoint(self) -> bool:
        """Whether the text before the newest character is due; that character shows where a word ends."""
        end = len(self._text) - 1
        if end < self._config.first_window_chars or not is_boundary(self._text, end):
            return False
        due = end - self._checked >= self._config.max_hold_chars
        return due or self._checked == 0 or self._text[end - 1] in _SENTENCE_ENDS

    def _examine(self, final: bool) -> None:
        end = len(self._text) if final else len(self._text) - 1
        start = max(0, self._released - self._config.context_chars)
        while start > 0 and not is_boundary(self._text, start):
            start -= 1
        since = self._released - start
        inspection = Inspection(clear=since)

        def inspect() -> Verdict:
            nonlocal inspection
            inspection = self._rules.inspect(self._text[start:end], since, final)
            return inspection.strike or Verdict.ok()

        self._verdict = self._guarded(inspect)
        self._checked = end
        if self._verdict.allowed:
            self._released = start + inspection.clear

    def _judge_speech(self, released_before: int) -> Verdict:
        assert self._speech is not None
        verdict = self._speech(self._text)
        if not verdict.allowed:
            self._released = released_before
        return verdict

    def _guarded(self, check: Callable[[], Verdict]) -> Verdict:
        try:
            return check()
        except Exception as error:  # whatever breaks in a check, unchecked text must not pass
            self._log.error("output_check_failed", error=type(error).__name__)
            return Verdict(allowed=False, category="default", rule="check_failed")
