"""Korean telephone numbers: mobile, landline, internet and safe numbers, +82, spelled in Hangul."""

from __future__ import annotations

from safety.pii.base import PatternDetector

_DIGITS = r"""
(?<![\d０-９.,-])
(?:
    \(?(?:\+|00)\s?82\)?[\s.-]{0,2}(?:\(?0\)?)?(?:1[016789]|2|[3-6]\d|70)   # +82 10, +82 2
  | \(?0(?:1[016789]|2|[3-6][1-5]|70|50[2-8]?|80)\)?                        # 010, 02, 031, 070, 050x, 080
)
[\s.)~·-]{0,3}\d{3,4}[\s.~·-]{0,3}\d{4}
(?![\d-])
"""

_HANGUL = r"""
(?<![공영일이삼사오육륙칠팔구])
[공영]일[공영일육칠팔구][\s,.-]{0,2}
(?:[공영일이삼사오육륙칠팔구]\s?){3,4}[\s,.-]{0,2}(?:에\s)?
(?:[공영일이삼사오육륙칠팔구]\s?){3}[공영일이삼사오육륙칠팔구]
"""


def phone_detectors() -> list[PatternDetector]:
    return [PatternDetector("phone", _DIGITS), PatternDetector("phone", _HANGUL)]
