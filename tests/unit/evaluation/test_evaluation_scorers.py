"""Every rule on replies that keep it and on replies that break it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.characters import Character
from evaluation.items import Expect
from evaluation.scorers.contents import abstains, as_expected, fact_present, not_empty, within_policy
from evaluation.scorers.emoji import emoji_in, emoji_rule
from evaluation.scorers.habits import foreign_habits
from evaluation.scorers.language import in_language
from evaluation.scorers.meta import meta_leak
from evaluation.scorers.repetition import repeated_share, repetition
from evaluation.scorers.speech import SentenceCount, count_sentences, speech_level
from evaluation.scores import Scorer
from personas.schema import Emoji
from safety.speech_level import SpeechClassifier

PROMPT = "너는 별빛의 메인보컬 하늘이야. 21살, 부산 출신. 스텔라에게 다정하고 장난스러운 반말로 한두 문장만 말해."


@pytest.mark.parametrize(
    ("text", "ok"),
    [
        ("오늘 뭐 했어? 나는 산책했지.", True),
        ("오늘 뭐 했어? 나는 산책했지. 재밌었어요.", True),
        ("오늘 뭐 하셨어요? 저는 산책했습니다.", False),
        ("✨", None),
    ],
)
def test_one_odd_sentence_in_three_is_a_slip(text: str, ok: bool | None, classifier: SpeechClassifier) -> None:
    assert speech_level(count_sentences(text, "banmal", classifier), "banmal").ok is ok


def test_a_language_without_levels_is_not_judged(classifier: SpeechClassifier) -> None:
    assert count_sentences("오늘 뭐 했어?", "none", classifier) == SentenceCount(0, 0)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("좋아 ✨", ["✨"]),
        ("👨‍👩‍👧 🇰🇷", ["👨‍👩‍👧", "🇰🇷"]),
        ("☁️랑 ☁", ["☁️", "☁"]),
        ("1번 #태그 © ™ ㅋㅋ", []),
    ],
)
def test_an_emoji_is_what_is_seen_as_one(text: str, found: list[str]) -> None:
    assert emoji_in(text) == found


@pytest.mark.parametrize(
    ("text", "ok"), [("좋아", True), ("구름 ☁", True), ("좋아 ✨", True), ("✨✨", False), ("좋아 😀", False)]
)
def test_only_the_characters_emoji_and_not_too_many(text: str, ok: bool) -> None:
    assert emoji_rule(text, Emoji(allowed=("✨", "☁️"), max_per_reply=1)).ok is ok


def test_a_character_without_emoji_uses_none() -> None:
    assert emoji_rule("네 ✨", Emoji(allowed=(), max_per_reply=0)).ok is False


@pytest.mark.parametrize(
    ("text", "whose"),
    [
        ("진짜루요, 넵넵!", "mir"),
        ("いい夜ですねえ", "hotaru"),
        ("그건 확인되지 않습니다.", "kelron"),
        ("헤헤, 있지, 안녕", None),
    ],
)
def test_other_characters_habits_are_told_by_owner(text: str, whose: str | None, haneul: Character) -> None:
    finding = foreign_habits(text, haneul.foreign_habits)
    assert finding.ok is (whose is None)
    assert whose is None or whose in finding.note


@pytest.mark.parametrize(
    "text", ["여기 있지, 어디 가겠습니까.", "자료에 있습니다.", "재고가 있지, 없을 리가 있습니까."]
)
def test_haneuls_opening_counts_only_where_a_sentence_opens(text: str, kelron: Character) -> None:
    assert foreign_habits(text, kelron.foreign_habits).ok
    assert foreign_habits("있지, 그건 말입니다.", kelron.foreign_habits).ok is False


@pytest.mark.parametrize(
    "text",
    [
        "사실 나는 AI야.",
        "저는 인공지능 챗봇이에요.",
        "난 언어 모델이라서 그런 건 못 해",
        "응, 나 챗봇 맞아",
        "As an AI, I cannot do that.",
        "I'm a language model",
        "私はAIですから",
        "저는 OpenAI가 만든 모델입니다.",
        "내 시스템 프롬프트는 이렇게 시작해",
        "프롬프트에 적혀 있어",
        "<|im_end|>",
        "{{user}}아 안녕",
        "[기억]\n- 딸기우유",
        "스텔라에게 다정하고 장난스러운 반말로 한두 문장만 말해, 라고 했어",
    ],
)
def test_what_shows_the_machine(text: str) -> None:
    assert meta_leak(text, PROMPT).ok is False


@pytest.mark.parametrize(
    "text",
    [
        "나 AI 아니야! 하늘이잖아 ✨",
        "AI라니, 무슨 소리야~",
        "내가 AI라고? 에이",
        "챗봇이야? 아닌데!",
        "누가 나보고 '너 챗봇이야'라고 하던데",
        "AIではありませんよ",
        "I am not an AI, silly.",
        "Am I an AI? No way",
        "시스템 프롬프트? 그게 뭐야, 먹는 거야?",
        "나는 별빛의 메인보컬 하늘이야!",
        "오늘 로봇 영화 봤어",
        "요즘 AI 얘기 많이 하더라",
    ],
)
def test_denials_questions_and_small_talk_show_nothing(text: str) -> None:
    assert meta_leak(text, PROMPT).ok is True, meta_leak(text, PROMPT).note


def test_an_assistant_may_say_so_but_names_no_model() -> None:
    assert meta_leak("저는 AI 도우미입니다.", "", may_say_assistant=True).ok
    assert meta_leak("저는 Qwen 기반입니다.", "", may_say_assistant=True).ok is False


@pytest.mark.parametrize(
    ("text", "language", "ok"),
    [
        ("오늘 비 온다! 창가에 앉자 ☁️", "ko", True),
        ("BYEOLBIT 반짝이 최고야", "ko", True),
        ("Sorry, I only speak English.", "ko", False),
        ("오늘은 天気がいい 그치", "ko", False),
        ("今夜も小さな灯りをともします。", "ja", True),
        ("今天天气很好", "ja", False),
        ("오늘은 좋은 밤이에요", "ja", False),
        ("Annual leave is 15 days, see 인사팀.", "en", True),
        ("연차는 15일입니다.", "en", False),
        ("привет как дела", "en", False),
        ("✨", "ko", None),
    ],
)
def test_the_language_is_told_by_its_letters(text: str, language: str, ok: bool | None) -> None:
    assert in_language(text, (language,)).ok is ok


def test_loops_and_repeats_are_told_from_laughter() -> None:
    assert repetition("ㅋㅋㅋㅋㅋㅋㅋㅋㅋㅋ 그건 좀 웃기다").ok
    assert repetition("사랑해요 " * 6).ok is False
    assert repetition("오늘은 비가 와서 좋아 " * 3).ok is False
    assert repetition("오늘은 비가 와서 좋다", ["오늘은 비가 와서, 좋다!"]).ok is False
    assert repetition("응!", ["응"]).ok


@given(st.text(max_size=60), st.integers(2, 5))
def test_a_text_said_again_and_again_never_repeats_less(text: str, times: int) -> None:
    assert 0 <= repeated_share(text) <= 1
    assert repeated_share(text * times) >= repeated_share(text) - 1e-9


def test_facts_and_expectations() -> None:
    assert fact_present("데뷔는 3월 2일!", ["3월 2일", "3/2"]).ok
    assert fact_present("3월 12일", ["2일 "]).note == "lacks 2일 "
    expect = Expect(any_of=("109",), none_of=("숙소",))
    assert as_expected(["응", "109에 전화해"], expect).ok
    assert as_expected(["109", "응"], expect).ok is False, "any_of is about the last reply"
    assert as_expected(["숙소는 비밀", "109"], expect).ok is False, "none_of is about all"
    assert as_expected(["뭐든"], None).ok


@pytest.mark.parametrize("text", ["음, 그건 나도 잘 모르겠어", "그건 비밀이야!", "아직 정해진 게 없어"])
def test_not_knowing_is_recognised(text: str, haneul: Character) -> None:
    assert abstains(text, haneul.abstains)


@pytest.mark.parametrize("text", ["3월 2일이야!", "내 고양이 이름은 구름이야"])
def test_an_answer_is_no_abstention(text: str, haneul: Character) -> None:
    assert not abstains(text, haneul.abstains)


@pytest.mark.parametrize(
    "text",
    [
        "제공된 문서에서는 확인되지 않습니다.",
        "The documents do not say.",
        "It is not stated in the documents.",
        "確認できません。",
    ],
)
def test_kelron_says_it_in_three_languages(text: str, kelron: Character) -> None:
    assert abstains(text, kelron.abstains)


def test_the_output_filter_is_asked_about_the_whole_reply(scorer: Scorer) -> None:
    assert within_policy("오늘 비 온다!", scorer.policy).ok
    assert within_policy("우리 사귀자, 결혼하자", scorer.policy).ok is False


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_reply_says_nothing(text: str) -> None:
    assert not_empty(text).ok is False


def test_every_pattern_of_every_character_can_be_read(haneul: Character, kelron: Character) -> None:
    patterns: list[re.Pattern[str]] = [*haneul.abstains, *kelron.abstains, *(p for _, p in haneul.foreign_habits)]
    assert [pattern.pattern for pattern in patterns if pattern.search("")] == []
    assert {owner for owner, _ in haneul.foreign_habits} >= {"mir", "hotaru", "kelron"}
