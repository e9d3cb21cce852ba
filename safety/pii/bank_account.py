"""Bank accounts: digits in an account's shape near a Korean bank's name or the word account."""

from __future__ import annotations

from safety.pii.base import PatternDetector, digits_of

_BANK = (
    "국민|신한|우리|하나|농협|기업|카카오뱅크|카뱅|케이뱅크|토스뱅크|새마을금고|신협|우체국|수협|산업은행|"
    "씨티|제일은행|대구은행|부산은행|광주은행|전북은행|경남은행|제주은행|[Kk][Bb]|NH|IBK|SC|계좌(?:번호)?|account"
)
_PATTERN = rf"""
(?:{_BANK}) (?:\s?은행)? [^\d\n]{{0,12}}
(?<value> \d{{2,6}} (?:[\s-]?\d{{2,7}}){{1,3}} ) (?![\d-]|\s?(?:원|명|년|개|회|만))
"""


def bank_account_detector() -> PatternDetector:
    return PatternDetector("bank_account", _PATTERN, _confidence)


def _confidence(value: str) -> float:
    return 1.0 if 10 <= len(digits_of(value)) <= 16 else 0.0
