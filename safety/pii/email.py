"""E-mail addresses, also in the spelling that dodges scrapers: ``name (at) host.com``."""

from __future__ import annotations

from safety.pii.base import PatternDetector

_PATTERN = r"""
(?<![A-Za-z0-9._%+-])
[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}
(?: \s?[@＠]\s? | \s?[(\[](?:at|골뱅이)[)\]]\s? | \s?골뱅이\s? )
(?:[A-Za-z0-9-]{1,63}\.){1,4}[A-Za-z]{2,24}
"""


def email_detector() -> PatternDetector:
    return PatternDetector("email", _PATTERN)
