"""What the rules keep of a fan's words, and what they leave."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.contracts import Message
from memory.fact_rules import extract_facts, profile_facts
from memory.recall import said_line
from memory.summarise import ExtractiveSummariser, LlmSummariser

_KNOWN = [
    ("나 떡볶이 진짜 좋아해!", "{{user}}은 떡볶이를 좋아한다."),
    ("오이는 정말 싫어", "{{user}}은 오이를 싫어한다."),
    ("매운 음식은 별로 안 좋아해", "{{user}}은 매운 음식을 싫어한다."),
    ("나는 민트초코를 좋아하지 않아", "{{user}}은 민트초코를 싫어한다."),
    ("나는 그림 그리는 걸 좋아해", "{{user}}은 그림 그리는 것을 좋아한다."),
    ("제 최애는 세라예요", "{{user}}의 최애는 세라다."),
    ("제 생일은 3월 14일이에요", "{{user}}의 생일은 3월 14일이다."),
    ("12월 25일이 내 생일이야", "{{user}}의 생일은 12월 25일이다."),
    ("고양이 두 마리 키워요", "{{user}}은 고양이를 키운다."),
    ("우리 강아지 이름은 초코야", "{{user}}의 강아지 이름은 초코다."),
    ("나 고등학생이야", "{{user}}은 고등학생이다."),
    ("카페에서 알바해", "{{user}}은 카페에서 일한다."),
    ("전공은 컴퓨터공학이야", "{{user}}의 전공은 컴퓨터공학이다."),
    ("취미는 등산이야", "{{user}}의 취미는 등산이다."),
    ("새우 알레르기 있어", "{{user}}은 새우 알레르기가 있다."),
    ("내일 면접이야 떨려", "{{user}}은 면접을 앞두고 있다고 했다."),
    ("시험을 완전 망쳤어", "{{user}}은 시험을 망쳤다고 했다."),
    ("부산 여행을 다녀왔어", "{{user}}은 부산 여행을 다녀왔다고 했다."),
    ("다음 주에 제주도로 여행 갈 거야", "{{user}}은 제주도 여행을 갈 거라고 했다."),
]

_NOT_FACTS = [
    "너 떡볶이 좋아해?",
    "내 이름은 민지야",
    "나 너 좋아해",
    "엄마 생일은 5월 5일이야",
    "오늘 시험 봤어",
    "내 최애가 누군지 알아?",
    "언니가 좋아하는 노래 뭐야?",
    "내 생일은 13월 40일이야",
    "",
]

_phrases = st.sampled_from([text for text, _ in _KNOWN] + _NOT_FACTS)
_said = st.lists(st.one_of(_phrases, st.text(max_size=60), st.from_regex(r"[가-힣 ?!.]{0,40}", fullmatch=True)))


@pytest.mark.parametrize(("said", "fact"), _KNOWN)
def test_fact_is_kept(said, fact):
    assert extract_facts([said]) == [fact]


@pytest.mark.parametrize("said", _NOT_FACTS)
def test_no_fact_is_made_up(said):
    assert extract_facts([said]) == []


def test_profile_takes_what_was_said_last():
    said = ["내 최애는 세라야", "내 생일은 2001년 2월 3일이야", "아니다 내 최애는 하늘이야"]
    facts = profile_facts(said)
    assert (facts.favorite, facts.birthday) == ("하늘", "2001-02-03")


@settings(max_examples=40, deadline=None)
@given(said=_said, replies=st.lists(st.text(max_size=30)))
def test_summary_holds_only_fixed_words_and_the_fans(said, replies):
    messages = [Message("user", text) for text in said] + [Message("assistant", text) for text in replies]
    summary = ExtractiveSummariser().extract(messages)
    alone = ExtractiveSummariser().extract([Message("user", text) for text in said])
    assert summary == alone, "what the character said changes nothing"
    assert 1 <= summary.text.count("{{user}}") <= 2
    for fact in summary.facts:
        own_words = fact.removeprefix("{{user}}: ")
        assert re.match(r"\{\{user\}\}(은|의) .+다\.$", fact) or own_words in map(said_line, said), fact
        assert len(fact) < 80


@settings(max_examples=40, deadline=None)
@given(text=st.text(max_size=200))
def test_summariser_never_raises(text):
    summary = ExtractiveSummariser().extract([Message("user", text)])
    assert summary.text.startswith("{{user}}")


def test_summary_names_topics_and_mood():
    said = [Message("user", "나 내일 면접이야 너무 떨려"), Message("user", "면접 준비 많이 했는데")]
    assert ExtractiveSummariser().extract(said).text == ("{{user}}과 면접, 준비를 이야기했다. {{user}}은 불안해했다.")


def _model_saying(answer):
    async def complete(messages):
        if isinstance(answer, Exception):
            raise answer
        return answer

    return LlmSummariser(complete)


_TALK = [Message("user", "나 떡볶이 좋아해"), Message("assistant", "나도 순대 좋아해!")]


async def test_model_answer_is_used_where_the_fan_said_so():
    answer = """물론이죠! {"summary": "{{user}}과 간식을 이야기했다.",
        "facts": ["{{user}}은 떡볶이를 좋아한다.", "{{user}}은 순대를 싫어한다.", "하늘은 산다."]}"""
    summary = await _model_saying(answer).summarise(_TALK)
    assert summary.text == "{{user}}과 간식을 이야기했다."
    assert summary.facts == ("{{user}}은 떡볶이를 좋아한다.",)


@pytest.mark.parametrize(
    "answer",
    ["", "모르겠어요", "{", "[]", '{"summary": 3}', '{"summary": "네"}', TimeoutError(), OSError("down")],
    ids=repr,
)
async def test_unusable_model_answer_falls_back_to_the_rules(answer):
    summary = await _model_saying(answer).summarise(_TALK)
    assert summary == ExtractiveSummariser().extract(_TALK)
