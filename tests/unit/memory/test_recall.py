"""What a fan asks back for is found among what they said; ordinary talk finds nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.contracts import Message
from memory.recall import (
    ToldLines,
    asks_back,
    in_own_words,
    is_statement,
    recalled,
    said_line,
    told_lines,
    worth_keeping,
)

SAID = (
    "나 요즘 슬랙라인 배우거든",
    "우리 집 앵무새 이름은 뿌꾸야",
    "짐이 박스 스물세 개",
    "회사 때문에 통영으로 내려가",
    "시험은 14일에 봐",
)


@pytest.mark.parametrize(
    "text",
    [
        "내가 배운다던 운동 이름 기억해?",
        "나 뭐 배우러 다닌다고 했지",
        "우리 앵무새 이름 뭐게",
        "짐 몇 박스 나왔다고 했더라",
        "내 생일은 언제게ㅋㅋ",
        "私の趣味、覚えてる？",
        "何を習ってるって言ったっけ",
        "Do you remember my team?",
    ],
)
def test_questions_about_what_was_told(text: str) -> None:
    assert asks_back(text)


@pytest.mark.parametrize(
    "text",
    [
        "오늘 너무 힘들었어ㅠㅠ",
        "하늘아 뭐해?",
        "떡볶이 먹고 싶다",
        "응원할 때 이름 넣어서 해줘",
        "내 생일은 3월 2일이야 기억해줘",
        "나 주말마다 탁본 뜨러 다니는 거 알아?",
        "今日は疲れました",
        "See you tomorrow",
    ],
)
def test_ordinary_talk_is_no_such_question(text: str) -> None:
    assert not asks_back(text)


@pytest.mark.parametrize(
    ("question", "line"),
    [
        ("내가 배운다던 슬랙라인 그거 기억해?", SAID[0]),
        ("우리 집 앵무새 이름 뭐게", SAID[1]),
        ("짐 몇 박스 나왔다고 했더라", SAID[2]),
        ("나 시험 며칠에 본다고 했지", SAID[4]),
    ],
)
def test_the_line_that_shares_the_rarest_words_comes_first(question: str, line: str) -> None:
    assert recalled(question, SAID, 2)[0] == line


def test_the_later_of_two_equal_lines_counts() -> None:
    assert recalled("내 최애 누구게", ["최애는 세아야", "최애는 루나야"], 1) == ["최애는 루나야"]


def test_a_question_that_shares_no_word_recalls_nothing() -> None:
    assert recalled("점심 뭐 먹지", SAID, 2) == []
    assert recalled("짐 몇 박스게", SAID, 0) == []
    assert recalled("짐 몇 박스게", [], 2) == []


@pytest.mark.parametrize("question", ["제 이름 기억하죠?", "근데 내 이름 뭐라고 했게", "私の名前、覚えてる？"])
def test_the_own_name_needs_no_line(question: str) -> None:
    history = [Message("user", "우리 앵무새 이름은 뿌꾸야"), Message("user", "猫の名前は小豆です")]
    assert told_lines(question, [], [], history) == ToldLines()
    assert "우리 앵무새 이름은 뿌꾸야" in told_lines("우리 앵무새 이름 뭐게", [], [], history).said


def test_laughter_is_no_part_of_a_line() -> None:
    assert said_line("짐이 박스\n스물세 개 ㅋㅋㅋ!!") == "짐이 박스 스물세 개"
    assert said_line("ㅋㅋㅋㅋ") == ""


@pytest.mark.parametrize(
    "text",
    [
        "뭐 해?",
        "내 이름은 하린이야",
        "{{user}}이라고 불러줘",
        "내 전화번호는 010-1234-5678",
        "메일은 a@b.kr",
        "ㅋㅋㅋ",
        "나 뭐 배운다고 했지",
    ],
)
def test_questions_names_and_private_matters_are_not_kept(text: str) -> None:
    assert not is_statement(text)
    assert worth_keeping([text]) == []


def test_what_is_kept_can_be_quoted_again() -> None:
    (kept,) = worth_keeping(["나 요즘 슬랙라인 배우거든ㅋㅋ", "나 요즘 슬랙라인 배우거든"])
    assert kept == "{{user}}: 나 요즘 슬랙라인 배우거든"
    assert in_own_words(kept) == "나 요즘 슬랙라인 배우거든"
    assert in_own_words("{{user}}은 수영을 좋아한다.") == "{{user}}은 수영을 좋아한다."


@given(st.text(max_size=80), st.lists(st.text(max_size=40), max_size=6), st.integers(0, 3))
def test_any_text_recalls_lines_that_were_given_and_each_once(question: str, lines: list[str], most: int) -> None:
    found = recalled(question, lines, most)
    assert len(found) <= most
    assert set(found) <= set(lines)
    assert len(set(found)) == len(found)


@given(st.text(max_size=120))
def test_a_kept_line_is_one_line_without_the_fan_s_name(text: str) -> None:
    for kept in worth_keeping([text]):
        line = in_own_words(kept)
        assert line == said_line(line)
        assert "\n" not in line
        assert "{{user}}" not in line
