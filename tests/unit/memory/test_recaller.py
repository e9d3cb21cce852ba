from __future__ import annotations

from collections.abc import Sequence

import pytest

from core.contracts import Message
from core.errors import StoreUnavailable
from memory.recaller import MOST_READ, Recaller, fused

SAID = ["나 피아노 조율사로 일해", "오늘은 비가 와서 집에 있어", "우리 집 앵무새는 뿌꾸야"]
HISTORY = [Message("user", line) for line in SAID]


class Reader:
    """Finds relevant what it was told to."""

    def __init__(self, scores: dict[str, float], error: Exception | None = None) -> None:
        self.scores = scores
        self.error = error
        self.shown: list[str] = []

    async def relevance(self, line: str, passages: Sequence[str]) -> list[float]:
        if self.error:
            raise self.error
        self.shown = list(passages)
        return [self.scores.get(passage, 0.0) for passage in passages]


async def test_a_reader_finds_what_shares_no_word_with_the_question() -> None:
    reader = Reader({SAID[0]: 0.9, SAID[2]: 0.6, SAID[1]: 0.05})
    assert await Recaller(reader).lines("내 직업 뭐게?", [], [], HISTORY, 2) == [SAID[0], SAID[2]]
    assert await Recaller(reader).lines("내 직업 뭐게?", [], [], HISTORY, 1) == [SAID[0]]
    assert SAID[1] not in await Recaller(reader).lines("내 직업 뭐게?", [], [], HISTORY, 3)
    assert await Recaller().lines("내 직업 뭐게?", [], [], HISTORY, 2) == []


@pytest.mark.parametrize(
    "reader", [None, Reader({}), Reader({}, StoreUnavailable("gone", "embedder")), Reader({}, TimeoutError())]
)
async def test_without_a_reader_that_finds_any_the_words_decide(reader: Reader | None) -> None:
    assert (await Recaller(reader).lines("우리 앵무새 이름 뭐게", [], [], HISTORY, 2))[0] == SAID[2]


async def test_facts_and_own_words_are_not_mixed() -> None:
    facts = ["생일: 5월 20일"]
    reader = Reader({facts[0]: 0.9, SAID[0]: 0.8})
    assert await Recaller(reader).lines("내 소개 기억해?", facts, [], HISTORY, 2) == facts
    reader = Reader({facts[0]: 0.7, SAID[0]: 0.8})
    assert await Recaller(reader).lines("내 소개 기억해?", facts, [], HISTORY, 2) == [SAID[0]]


async def test_only_the_latest_lines_are_read() -> None:
    reader = Reader({})
    many = [Message("user", f"오늘은 {number}번 버스를 탔어") for number in range(100)]
    await Recaller(reader).lines("내가 몇 번 탔게?", [], [], many, 2)
    assert len(reader.shown) == MOST_READ
    assert reader.shown[-1] == "오늘은 99번 버스를 탔어"


async def test_nothing_is_read_when_nothing_may_be_shown() -> None:
    reader = Reader({SAID[0]: 1.0})
    assert await Recaller(reader).lines("내 직업 뭐게?", [], [], HISTORY, 0) == []
    assert await Recaller(reader).lines("내 이름 뭐게?", [], [], HISTORY, 2) == []
    assert reader.shown == []


async def test_what_both_find_comes_first() -> None:
    reader = Reader({SAID[1]: 0.9, SAID[2]: 0.8})
    assert (await Recaller(reader).lines("우리 앵무새 이름 뭐게", [], [], HISTORY, 2))[0] == SAID[2]


def test_fusion_rewards_agreement_and_loses_nothing() -> None:
    assert fused(["a", "b"], ["b", "c"]) == ["b", "a", "c"]
    assert fused(["a"], []) == ["a"]
    assert fused() == []
