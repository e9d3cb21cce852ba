"""What a fan writes: checked before it reaches memory, retrieval or the model."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

from core.contracts import Verdict
from core.logs import get_logger
from safety.normalise import normalise
from safety.pii import find_all
from safety.policy import DEFAULT, Policy
from safety.rules import CompiledRule

_LETTER_BY_LETTER = re.compile(r"(?:(?<=[\s.\-_*])|^)(?:[a-z가-힣][\s.\-_*]{1,2}){4,}[a-z가-힣](?![a-z가-힣])")
_BASE64 = re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{24,}={0,2}")
_NO_LETTER = re.compile(r"[\W_]+")


class InputConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    max_chars: int = Field(default=20_000, ge=1)
    """Longer messages are blocked unread, as category ``default``."""

    min_pii_confidence: float = Field(default=0.5, ge=0, le=1)
    """Findings of personal data below this confidence are let through."""


class Classifier(Protocol):
    """A trained judge of messages that no keyword gives away; asked only when the rules found nothing."""

    def classify(self, text: str, persona: str) -> Verdict: ...


class InputFilter:
    """Rules first, then personal data, then the classifier if there is one. Fails closed."""

    def __init__(
        self,
        policies: Mapping[str, Policy],
        config: InputConfig | None = None,
        classifier: Classifier | None = None,
    ) -> None:
        self._config = config or InputConfig()
        self._policies = policies
        self._rules = {name: policy.compiled("input") for name, policy in policies.items()}
        self._classifier = classifier
        self._log = get_logger("guard")

    def check(self, text: str, persona: str) -> Verdict:
        """Whether ``text`` may go on to ``persona``."""
        try:
            return self._judge(text, persona)
        except Exception as error:  # whatever breaks in a check, unchecked text must not pass
            self._log.error("input_check_failed", persona=persona, error=type(error).__name__)
            return Verdict(allowed=False, category="default", rule="check_failed")

    def _judge(self, text: str, persona: str) -> Verdict:
        if len(text) > self._config.max_chars:
            return Verdict(allowed=False, category="default", rule="too_long")
        name = persona if persona in self._policies else DEFAULT
        for view in _views(text):
            if rule := _first_strike(self._rules[name], view):
                return Verdict(allowed=False, category=rule.category, rule=rule.id)
        findings = find_all(text, self._policies[name].pii_in_input, self._config.min_pii_confidence)
        if findings:
            return Verdict(allowed=False, category="personal_data", rule=f"pii-{findings[0].kind}")
        return self._classifier.classify(text, persona) if self._classifier else Verdict.ok()


def _first_strike(rules: tuple[CompiledRule, ...], text: str) -> CompiledRule | None:
    return next((rule for rule in rules if rule.find(text)), None)


def _views(text: str) -> Iterator[str]:
    """The canonical text, and what it hides: words spelled letter by letter, Base64."""
    plain = normalise(text).text
    yield plain
    joined = _LETTER_BY_LETTER.sub(lambda match: _NO_LETTER.sub("", match.group()), plain)
    if joined != plain:
        yield joined
    for match in _BASE64.finditer(text):
        if hidden := _decoded(match.group()):
            yield normalise(hidden).text


def _decoded(blob: str) -> str | None:
    try:
        return base64.b64decode(blob + "=" * (-len(blob) % 4), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return None
