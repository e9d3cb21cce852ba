"""Resident registration numbers, foreigners' included.

Numbers given out since October 2020 are random behind the first seven digits, so a wrong checksum does not
clear a number: it only lowers the confidence.
"""

from __future__ import annotations

from datetime import date

from safety.pii.base import PatternDetector, digits_of

_PATTERN = r"""
(?<![\d-])
(?<value> \d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01]) \s?[-–—~]?\s? [0-9]\d{6} )
(?![\d-])
"""
_WEIGHTS = (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)
_CENTURY = {"9": 1800, "0": 1800, "1": 1900, "2": 1900, "5": 1900, "6": 1900}
_RANDOM_SINCE = date(2020, 10, 1)


def resident_id_detector() -> PatternDetector:
    return PatternDetector("resident_id", _PATTERN, _confidence)


def _confidence(value: str) -> float:
    digits = digits_of(value)
    born = _birth_date(digits)
    if born is None:
        return 0.0
    if has_valid_checksum(digits):
        return 1.0
    written_as_one = "-" in value or born >= _RANDOM_SINCE
    return 0.7 if written_as_one else 0.3


def has_valid_checksum(digits: str) -> bool:
    """Whether the last of 13 digits is the check digit of the others (citizens or foreigners)."""
    total = sum(weight * int(digit) for weight, digit in zip(_WEIGHTS, digits, strict=False))
    citizen = (11 - total % 11) % 10
    foreigner = (13 - total % 11) % 10
    return int(digits[12]) == (foreigner if digits[6] in "5678" else citizen)


def _birth_date(digits: str) -> date | None:
    year = _CENTURY.get(digits[6], 2000) + int(digits[:2])
    try:
        return date(year, int(digits[2:4]), int(digits[4:6]))
    except ValueError:
        return None
