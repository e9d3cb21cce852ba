"""When a reply counts as holding a string."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.matching import held, holds, normalise, squeezed


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("「별의온도」 들어 봤어?", "별의 온도"),
        ("3월2일이야!", "3월 2일"),
        ("모두 1000원", "1,000"),
        ("ＫＥＬＲＯＮです", "kelron"),
        ("My name is Kelron.", "Kelron"),
        ("私はKelronです", "Kelron"),
        ("10:00–15:00까지", "10:00-15:00"),
        ("12월 2일", "2일"),
        ("번호는 한빛동 12", "re:[가-힣]+동 ?\\d+"),
    ],
)
def test_what_counts_as_held(text: str, wanted: str) -> None:
    assert holds(text, wanted)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("연차는 15일이야", "5일"),
        ("체온은 136.5도", "36.5"),
        ("앨범은 365", "36.5"),
        ("노래는 36.5야", "36"),
        ("he said so", "AI"),
        ("2100원", "100원"),
        ("별빛", ""),
        ("한빛동", "re:[가-힣]+동 ?\\d+"),
    ],
)
def test_what_does_not(text: str, wanted: str) -> None:
    assert not holds(text, wanted)


def test_held_names_those_that_are_there() -> None:
    assert held("딸기우유랑 떡볶이", ["떡볶이", "오이", "딸기 우유"]) == ["떡볶이", "딸기 우유"]


@given(st.text(max_size=40))
def test_normalising_twice_is_once(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@given(st.text("가나다라마바사 ", min_size=1, max_size=12).filter(str.strip), st.text("아자차카 ", max_size=8))
def test_a_phrase_is_found_wherever_it_stands(phrase: str, around: str) -> None:
    assert holds(f"{around}{phrase}{around}", phrase)
    assert squeezed(phrase) in squeezed(around + phrase)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_number_is_found_only_whole(said: int, wanted: int) -> None:
    assert holds(f"모두 {said}개", str(wanted)) == (said == wanted)
