"""Detectors of personal data, used by the live filters and by the data pipeline.

One file per kind, all behind :class:`Detector`; :func:`find_all` runs them, :func:`mask` replaces findings.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import get_args

from safety.pii.address import address_detector
from safety.pii.bank_account import bank_account_detector
from safety.pii.base import Detector, Finding, PatternDetector, PiiKind
from safety.pii.card import card_detector
from safety.pii.email import email_detector
from safety.pii.phone import phone_detectors
from safety.pii.resident_id import resident_id_detector

__all__ = ["LABELS", "Detector", "Finding", "PatternDetector", "PiiKind", "detectors", "find_all", "mask"]

LABELS: dict[PiiKind, str] = {
    "email": "[이메일]",
    "phone": "[전화번호]",
    "resident_id": "[주민등록번호]",
    "bank_account": "[계좌번호]",
    "card": "[카드번호]",
    "address": "[주소]",
}
# Where two kinds claim the same digits, the earlier one names them.
_PRIORITY: tuple[PiiKind, ...] = ("resident_id", "card", "email", "phone", "bank_account", "address")


@lru_cache(maxsize=32)
def detectors(kinds: tuple[PiiKind, ...] = get_args(PiiKind)) -> tuple[Detector, ...]:
    """The detectors of these kinds, compiled once."""
    every: list[Detector] = [
        resident_id_detector(),
        card_detector(),
        email_detector(),
        *phone_detectors(),
        bank_account_detector(),
        address_detector(),
    ]
    return tuple(detector for detector in every if detector.kind in kinds)


def find_all(text: str, kinds: tuple[PiiKind, ...] = get_args(PiiKind), min_confidence: float = 0.5) -> list[Finding]:
    """Personal data in ``text``, in order and without overlaps."""
    found = [f for d in detectors(kinds) for f in d.find(text) if f.confidence >= min_confidence]
    kept: list[Finding] = []
    for finding in sorted(found, key=lambda f: (_PRIORITY.index(f.kind), f.start)):
        if all(finding.end <= other.start or finding.start >= other.end for other in kept):
            kept.append(finding)
    return sorted(kept, key=lambda f: f.start)


def mask(text: str, findings: Iterable[Finding] | Sequence[Finding]) -> str:
    """``text`` with every finding replaced by its label."""
    for finding in sorted(findings, key=lambda f: f.start, reverse=True):
        text = text[: finding.start] + LABELS[finding.kind] + text[finding.end :]
    return text
