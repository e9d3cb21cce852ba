"""What a rule found in a reply."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    ok: bool | None
    """Whether the rule holds; none: there is nothing to judge."""

    note: str = ""
    """What broke it, for people."""


HOLDS = Finding(ok=True)
NOT_JUDGED = Finding(ok=None)


def broken(note: str) -> Finding:
    return Finding(ok=False, note=note)
