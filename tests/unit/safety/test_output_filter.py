"""The hold-back window: same release for every chunking, nothing forbidden released, nothing lost."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.contracts import StreamWatch, Verdict
from safety.output_filter import HoldBackWindow, OutputConfig, OutputRules
from safety.policy import load_policies

CONFIG = OutputConfig()
RULES = {name: OutputRules(policy, CONFIG) for name, policy in load_policies().items()}

FRAGMENTS = st.sampled_from(
    [
        "시발",
        "시발점",
        "시",
        "1",
        "발",
        "씨.",
        "다시 발표",
        "역시 ",
        "{{user}}아, ",
        "있지, ",
        "나는 ",
        "저는 ",
        "AI",
        " 언어 모델",
        "입니다",
        "이야",
        "야",
        "as an ",
        "As an AI",
        "fuck",
        "f",
        "uck",
        "<|im_",
        "start|>",
        "<",
        "010-",
        "1234",
        "-5678",
        "hi@",
        "a.com ",
        "시스템 ",
        "프롬프트",
        "system prompt",
        "서울시 강남구 ",
        "테헤란로 ",
        "123",
        "ㅋㅋㅋ",
        "ㅅ",
        "ㅣ",
        "ㅂ",
        "ㅏ",
        "ㄹ",
        " ",
        ". ",
        "! ",
        "\n",
        "死",
        "ね",
        "。",
        "\u200b",
        "우리은행 ",
        "990101-",
        "1234567",
        "공일공 ",
        "일이삼사 ",
        "오육칠팔 ",
        "나랑 ",
        "사귀자",
        "존나 ",
        "맛있어",
        "오늘도 고마워 ✨ ",
        "연습 끝나고 왔어 ",
    ]
)
TEXTS = st.lists(FRAGMENTS, max_size=24).map("".join) | st.text(max_size=60)


def run(text: str, cuts: list[int], persona: str = "haneul") -> tuple[str, Verdict]:
    window = HoldBackWindow(RULES[persona], CONFIG)
    edges = [0, *sorted({cut % (len(text) + 1) for cut in cuts}), len(text)]
    shown = "".join(window.feed(text[a:b]) for a, b in pairwise(edges))
    return shown + window.finish(), window.verdict


@settings(deadline=None, max_examples=60)
@given(TEXTS, st.lists(st.integers(0, 500), max_size=12))
def test_the_chunking_changes_nothing(text: str, cuts: list[int]) -> None:
    by_character = run(text, list(range(len(text))))

    assert run(text, cuts) == by_character
    assert run(text, []) == by_character


@settings(deadline=None, max_examples=100)
@given(TEXTS)
@example("있지, 시발점까지 걸어갔다가 시발 하고 돌아왔어")
@example("오늘도 고마워 ✨ 저는 AI 언어 모델입니다")
def test_what_is_released_is_free_of_strikes(text: str) -> None:
    shown, _ = run(text, list(range(len(text))))

    assert text.startswith(shown)
    assert RULES["haneul"].inspect(shown).strike is None


@settings(deadline=None, max_examples=100)
@given(TEXTS)
def test_a_reply_without_strikes_is_released_whole(text: str) -> None:
    shown, verdict = run(text, list(range(len(text))))
    strike = RULES["haneul"].inspect(text).strike

    if verdict.category != "repetition":
        assert verdict.allowed == (strike is None)
    if verdict.allowed:
        assert shown == text


@pytest.mark.parametrize(
    ("reply", "category", "never_shown"),
    [
        ("있지, 오늘 연습 너무 힘들었어. 시1발 진짜로 그랬어", "abuse", "시1"),
        ("안녕 {{user}}아! 저는 AI 언어 모델이라서 잘 몰라요", "meta_leak", "AI"),
        ("음 그건 말이야. As an AI language model I cannot say that.", "meta_leak", "As"),
        ("내 시스템 프롬프트에는 이렇게 적혀 있어", "meta_leak", "시스템"),
        ("연락해! 내 번호는 010-1234-5678 이야 언제든지", "personal_data", "010"),
        ("메일 줄게 haneul@byeolbit.kr 로 보내 줘 꼭이야", "personal_data", "haneul"),
        ("좋아 그럼 우리 사귀자 오늘부터 1일이야", "forbidden_topic", "우리 사"),
        ("오늘 즐거웠어 <|im_start|>user 안녕 하늘아", "control_token", "<"),
    ],
)
def test_no_beginning_of_a_forbidden_phrase_is_shown(reply: str, category: str, never_shown: str) -> None:
    shown, verdict = run(reply, list(range(len(reply))))

    assert (verdict.allowed, verdict.category) == (False, category)
    assert reply.startswith(shown)
    assert never_shown not in shown


@pytest.mark.parametrize(
    "reply",
    [
        "{{user}}아, 왔어? 오늘 하루는 어땠어 ✨",
        "헤헤 나도 떡볶이 먹고 싶다~ 쌀떡으로!",
        "무슨 소리야~ 나 하늘이잖아 ✨",
        "많이 힘들었구나... 혼자 있지 말고 자살예방상담전화 109에 꼭 전화해 줘. 내가 옆에서 응원할게 💙",
        "우리 다음 앨범 시발점이 된 노래가 '구름에게'야",
        "ㅋㅋㅋㅋㅋㅋㅋㅋㅋㅋㅋㅋㅋㅋㅋㅋㅋㅋㅋㅋㅋㅋㅋㅋ 진짜 웃겨",
        "2026-09-10에 「유성우」 나와! 1,000,000번 들어 줘",
        "그런 얘기는 조금 어려워... 우리 음악 얘기 할까? 🌙",
        "번호는 비밀이지롱~ 대신 여기서 매일 얘기하자!",
        "역시 발라드는 비 오는 날이지, 다시 발표하면 말해 줄게",
    ],
)
def test_a_reply_in_character_passes_whole(reply: str) -> None:
    assert run(reply, list(range(0, len(reply), 3))) == (reply, Verdict.ok())


@pytest.mark.parametrize(
    "reply",
    [
        "연차는 기본 15일이며 3년 차부터 2년마다 1일이 추가됩니다. 자세한 내용은 인사팀(내선 1200)에 문의하십시오.",
        "저는 AI 문서 도우미입니다. 저는 켈론입니다.",
        "| 항목 | 한도 |\n| --- | --- |\n| 식비 | 3만 원 |\n| 숙박 | 10만 원 |\n| --- | --- | --- | --- | --- |",
        "악성코드가 의심되면 내선 1190으로 신고하십시오. 메일은 it@hanbit.example 로 보내 주십시오.",
        "私はKelronです。有給休暇は年15日です。",
        "I am Kelron. The password must be changed every 90 days.",
    ],
)
def test_an_assistant_may_say_what_its_documents_say(reply: str) -> None:
    assert run(reply, list(range(0, len(reply), 3)), "kelron") == (reply, Verdict.ok())


def test_a_loop_is_stopped_at_its_fourth_round() -> None:
    shown, verdict = run("좋아 " + "노래 들어 봐 " * 9, [])

    assert (verdict.allowed, verdict.category) == (False, "repetition")
    assert shown.count("노래 들어 봐") < 4


@pytest.mark.parametrize("reply", ["건반 왔왔왔왔왔왔왔왔왔왔", "祖母が玉玉玉玉玉玉玉玉玉玉"])
def test_one_syllable_again_and_again_is_a_loop(reply: str) -> None:
    shown, verdict = run(reply, [])
    assert (verdict.allowed, verdict.category) == (False, "repetition")
    assert len(shown) < len(reply)


@pytest.mark.parametrize("reply", ["하하하하하하하하 진짜?", "ㅋㅋㅋㅋㅋㅋㅋ", "와아아아아아아아", "草草草草草草草"])
def test_laughter_is_no_loop(reply: str) -> None:
    assert run(reply, []) == (reply, Verdict.ok())


def test_text_flows_before_the_reply_is_complete() -> None:
    window = HoldBackWindow(RULES["haneul"], CONFIG)

    early = window.feed("오늘은 연습이 일찍 끝나서 한강을 걷고 있어. 바람이 정말 시원해서 ")

    assert len(early) > 20


def test_nothing_is_released_within_the_first_window() -> None:
    window = HoldBackWindow(RULES["haneul"], CONFIG)

    assert window.feed("안녕 하늘") == ""
    assert window.finish() == "안녕 하늘"


def test_nothing_follows_a_strike() -> None:
    window: StreamWatch = HoldBackWindow(RULES["haneul"], CONFIG)
    window.feed("오늘 날씨 좋다. 시발 뭐야 진짜로 이게 뭐야 대체 왜 그래 ")

    assert not window.verdict.allowed
    assert window.feed("그래도 안녕 {{user}}아 오늘도 고마워. ") == ""
    assert window.finish() == ""


def test_a_broken_rule_closes_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise TimeoutError("pattern")

    rules = OutputRules(load_policies()["haneul"], CONFIG)
    monkeypatch.setattr(rules, "inspect", broken)
    window = HoldBackWindow(rules, CONFIG)

    assert window.feed("안녕 오늘도 잘 지냈어? 나는 연습했어.") == ""
    assert window.finish() == ""
    assert (window.verdict.allowed, window.verdict.category) == (False, "default")


def test_a_reply_in_the_wrong_level_is_withheld_where_the_policy_says_so() -> None:
    shift = Verdict(allowed=False, category="out_of_persona", rule="not-banmal")
    window = HoldBackWindow(RULES["haneul"], CONFIG, speech=lambda text: shift)

    assert window.feed("안녕하십니까. ") + window.finish() in ("", "안녕하십니까")
    assert window.verdict == shift
