"""Payment card numbers: 13 to 19 digits that pass the Luhn check."""

from __future__ import annotations

from safety.pii.base import PatternDetector, digits_of

_PATTERN = r"(?<![\d.-]) [2-6]\d{3} (?: [\s-]?\d ){9,15} (?![\s-]?\d)"


def card_detector() -> PatternDetector:
    return PatternDetector("card", _PATTERN, lambda value: 1.0 if passes_luhn(digits_of(value)) else 0.0)


def passes_luhn(digits: str) -> bool:
    """Every second digit from the right is doubled; the digit sum must end in zero."""
    doubled = [int(d) * (1 + i % 2) for i, d in enumerate(reversed(digits))]
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0
