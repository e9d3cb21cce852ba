"""What a profile learns from a message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.contracts import FanProfile
from memory.profile_rules import learned, told_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("내 이름은 하린이야", "하린"),
        ("제 이름은 민호예요. 반가워요!", "민호"),
        ("안녕하세요, 제 이름은 서윤입니다", "서윤"),
        ("하늘아 내 이름 도현이야 외워줘", "도현"),
        ("나는 채원이라고 해", "채원"),
        ("저는 준서라고 합니다", "준서"),
        ("앞으로 지우라고 불러줘", "지우"),
        ("그냥 은비라고 부르면 돼", "은비"),
        ("私の名前は美咲です", "美咲"),
        ("はじめまして、健太と申します", "健太"),
        ("ひなって呼んでください", "ひな"),
        ("Hi! My name is Sophie.", "Sophie"),
        ("call me Lucas", "Lucas"),
    ],
)
def test_a_name_that_was_told_is_taken(text, name):
    assert told_name(text) == name


@pytest.mark.parametrize(
    "text",
    [
        "내 이름 뭐야?",
        "내 이름은 비밀이야",
        "내 이름 기억해?",
        "내 이름 뭐라고 했지",
        "언니라고 불러도 돼?",
        "언니라고 불러줘",
        "나 학생이야",
        "우리 강아지 이름은 콩이야",
        "네 이름은 하늘이라고 알고 있어",
        "엄마가 바보라고 해서 속상해",
        "내 이름은 하린이라고 했잖아",
        "私の名前、覚えてますか",
        "what is my name?",
        "",
    ],
)
def test_no_name_is_made_up(text):
    assert told_name(text) is None


def test_what_is_open_is_filled_and_what_is_known_stays():
    assert learned(None, "fan-1", "내 생일은 3월 2일이야") == FanProfile("fan-1", birthday="03-02")
    known = FanProfile("fan-1", name="서윤", birthday="05-06")
    assert learned(known, "fan-1", "내 이름은 하린이야. 내 생일은 3월 2일이야") is None
    assert learned(known, "fan-1", "오늘 날씨 좋다") is None
    assert learned(FanProfile("fan-1", name="서윤"), "fan-1", "誕生日は3月14日です") == FanProfile(
        "fan-1", name="서윤", birthday="03-14"
    )


@given(st.text(max_size=60))
def test_any_text_gives_a_short_name_from_the_text_or_none(text):
    name = told_name(text)
    assert name is None or (name in text and 0 < len(name) <= 15)
