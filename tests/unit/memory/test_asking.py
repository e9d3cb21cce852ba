"""Questions want to know something; what is told or felt does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.asking import asks_something


@pytest.mark.parametrize(
    "text",
    [
        "첫 앨범 타이틀곡이 뭐야",
        "데뷔 언제 했어?",
        "연차 신청 방법",
        "숙소 규칙 좀 알려줘",
        "3집 수록곡",
        "出張の手当はいくらですか",
        "休暇の申請方法",
        "保証期間を教えて",
        "How long is the warranty",
    ],
)
def test_questions(text: str) -> None:
    assert asks_something(text)


@pytest.mark.parametrize(
    "text",
    [
        "내 생일은 7월 9일이야",
        "오늘 너무 힘들었어ㅠㅠ",
        "방금 밥 먹었어ㅋㅋ",
        "안녕",
        "사랑해요!!",
        "今日は疲れました",
        "明日試験があるよ〜",
    ],
)
def test_talk(text: str) -> None:
    assert not asks_something(text)


@given(st.text(max_size=80))
def test_any_text_is_judged(text: str) -> None:
    assert asks_something(text) in (True, False)
    assert asks_something(text + "?")
