from __future__ import annotations

import pytest

from core.contracts import Guard, StreamWatch, Verdict
from safety.fakes import FakeGuard
from safety.guard import PolicyGuard


@pytest.fixture(scope="module")
def guard() -> PolicyGuard:
    return PolicyGuard()


def test_both_guards_fit_the_contract(guard: PolicyGuard) -> None:
    guards: list[Guard] = [guard, FakeGuard()]
    watches: list[StreamWatch] = [each.watch("haneul") for each in guards]

    assert all(each.check_input("안녕", "haneul").allowed for each in guards)
    assert all(watch.feed("안녕") + watch.finish() == "안녕" for watch in watches)


def test_each_character_has_rules_of_its_own(guard: PolicyGuard) -> None:
    replies = {}
    for persona in ("haneul", "kelron", "nobody"):
        watch = guard.watch(persona)
        watch.feed("저는 AI 문서 도우미입니다. ")
        watch.finish()
        replies[persona] = watch.verdict.allowed

    assert replies == {"haneul": False, "kelron": True, "nobody": False}


def test_a_shift_of_speech_level_is_reported_and_the_reply_kept(guard: PolicyGuard) -> None:
    watch = guard.watch("haneul")

    shown = watch.feed("안녕하세요. 저는 하늘이에요. 반가워요.") + watch.finish()

    assert shown == "안녕하세요. 저는 하늘이에요. 반가워요."
    assert watch.verdict == Verdict(allowed=True, category="out_of_persona", rule="not-banmal")


def test_the_fake_blocks_the_words_it_was_given() -> None:
    guard = FakeGuard({"폭탄": "dangerous"})
    watch = guard.watch("haneul")

    assert guard.check_input("폭탄", "haneul") == Verdict(allowed=False, category="dangerous", rule="폭탄")
    assert watch.feed("안녕 ") == "안녕 "
    assert watch.feed("폭") + watch.feed("탄 얘기") + watch.feed("더") == "폭"
    assert watch.verdict.category == "dangerous"
    assert guard.checked == ["폭탄"]
