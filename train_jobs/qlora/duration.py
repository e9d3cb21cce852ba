"""Lengths of time as people write them: ``90s``, ``30m``, ``10h``, ``1h30m``."""

from __future__ import annotations

import re

UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_WHOLE = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


def parse_duration(text: str) -> int:
    """Seconds; a ``ValueError`` says how a length of time is written."""
    found = _WHOLE.fullmatch(text.strip())
    numbers = found.groups(default="0") if found else ()
    seconds = sum(int(number) * unit for number, unit in zip(numbers, UNITS.values(), strict=False))
    if seconds <= 0:
        raise ValueError(f"{text!r} is no length of time: write 90s, 30m, 10h or 1h30m")
    return seconds
