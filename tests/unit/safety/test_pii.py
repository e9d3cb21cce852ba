"""Detectors of personal data; all numbers are made up."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safety.pii import PiiKind, find_all, mask
from safety.pii.card import passes_luhn
from safety.pii.resident_id import has_valid_checksum, resident_id_detector

FOUND: list[tuple[str, PiiKind, str]] = [
    ("메일은 haneul.star+1@mail.example.com 이야", "email", "haneul.star+1@mail.example.com"),
    ("kim(at)hanbit.co.kr로 보내", "email", "kim(at)hanbit.co.kr"),
    ("010-1234-5678로 전화해", "phone", "010-1234-5678"),
    ("01012345678이야", "phone", "01012345678"),
    ("010 1234 5678", "phone", "010 1234 5678"),
    ("전화 010.1234.5678!", "phone", "010.1234.5678"),
    ("+82 10-1234-5678", "phone", "+82 10-1234-5678"),
    ("(02) 345-6789", "phone", "(02) 345-6789"),
    ("055-212-3456입니다", "phone", "055-212-3456"),
    ("070-1234-5678", "phone", "070-1234-5678"),
    ("공일공 일이삼사 오육칠팔", "phone", "공일공 일이삼사 오육칠팔"),
    ("주민번호 900101-1234568", "resident_id", "900101-1234568"),
    ("051015-3987654", "resident_id", "051015-3987654"),
    ("카드 4111-1111-1111-1111", "card", "4111-1111-1111-1111"),
    ("5500 0000 0000 0004", "card", "5500 0000 0000 0004"),
    ("국민은행 123456-04-123456으로 보내", "bank_account", "123456-04-123456"),
    ("카카오뱅크 3333-01-1234567", "bank_account", "3333-01-1234567"),
    ("계좌번호는 110 234 567890", "bank_account", "110 234 567890"),
    ("서울특별시 강남구 테헤란로 123에 살아", "address", "서울특별시 강남구 테헤란로 123"),
    ("창원시 성산구 중앙대로 45번길 6-7", "address", "창원시 성산구 중앙대로 45번길 6-7"),
    ("서울 강남구 역삼동 12-3번지", "address", "서울 강남구 역삼동 12-3번지"),
]

NOT_FOUND = [
    "2026년 9월 10일에 나와",
    "2026-09-10 19:30",
    "1,000,000원",
    "내선 1190",
    "109에 전화해",
    "36.5도",
    "버전 1.2.3.4",
    "@haneul 안녕",
    "a@b",
    "카드 4111-1111-1111-1112",
    "국민은행 앞에서 10분",
    "우리 3월 15일에 만나",
    "서울에서 부산까지 3시간",
    "연차 15일, 최대 25일",
    "ISO 9001·IATF 16949",
    "{{user}}아 안녕",
    "재생목록 010번",
    "이 길로 3분 걸어가",
    "하늘로 100번 뛰어",
]


@pytest.mark.parametrize(("text", "kind", "value"), FOUND)
def test_personal_data_is_found_to_the_character(text: str, kind: PiiKind, value: str) -> None:
    assert [(f.kind, text[f.start : f.end]) for f in find_all(text)] == [(kind, value)]


@pytest.mark.parametrize("text", NOT_FOUND)
def test_other_numbers_are_left_alone(text: str) -> None:
    assert find_all(text) == []


def test_findings_are_masked_by_kind() -> None:
    text = "나는 010-1234-5678, 메일은 a.b@c.co.kr"

    assert mask(text, find_all(text)) == "나는 [전화번호], 메일은 [이메일]"


@pytest.mark.parametrize(
    ("number", "confidence"), [("900101-1234568", 1.0), ("900101-1234567", 0.7), ("9001011234567", 0.3)]
)
def test_a_resident_number_without_checksum_is_less_certain(number: str, confidence: float) -> None:
    assert [f.confidence for f in resident_id_detector().find(number)] == [confidence]


def test_a_resident_number_needs_a_birth_date() -> None:
    assert find_all("900230-1234567") == []


def test_only_the_kinds_asked_for_are_found() -> None:
    assert find_all("010-1234-5678 a@b.co", kinds=("email",))[0].kind == "email"


@given(st.integers(0, 10**15 - 1))
def test_one_check_digit_in_ten_passes_luhn(stem: int) -> None:
    digits = f"{stem:015d}"

    assert sum(passes_luhn(digits + str(check)) for check in range(10)) == 1


@given(st.integers(0, 10**12 - 1))
def test_one_check_digit_in_ten_fits_a_resident_number(stem: int) -> None:
    digits = f"{stem:012d}"

    assert sum(has_valid_checksum(digits + str(check)) for check in range(10)) == 1


@given(st.lists(st.sampled_from([value for _, _, value in FOUND]), max_size=6))
def test_every_value_of_a_list_is_masked(values: list[str]) -> None:
    text = " / ".join(f"계좌 {value}" for value in values)
    findings = find_all(text)

    assert all(a.end <= b.start for a, b in pairwise(findings))
    assert not any(value in mask(text, findings) for value in values)
