"""Global stages: near-duplicates, mixing, splitting."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.rows import Kind, Row, make_row
from data_pipelines.stages.duplicates import similar_pairs, without_duplicates
from data_pipelines.stages.mixing import mix, preference
from data_pipelines.stages.splitting import split

LONG = "오늘은 하루 종일 연습실에 있었고 저녁에는 멤버들이랑 떡볶이를 먹으러 갔다 왔어 정말 맛있더라"


def row(user: str, reply: str, kind: Kind = "persona", source: str = "grammar") -> Row:
    return make_row(
        character_id="haneul",
        dataset_source=source,
        kind=kind,
        category=kind,
        messages=({"role": "user", "content": user}, {"role": "assistant", "content": reply}),
    )


def many(kind: Kind, count: int) -> list[Row]:
    return [row(f"{kind} 질문 {number}번", f"답 {number * 7919}", kind) for number in range(count)]


def test_punctuation_makes_no_new_conversation_and_the_hand_written_one_stays() -> None:
    written, composed = row("오늘 뭐했어?", LONG, source="seeds"), row("오늘 뭐했어", LONG + "!!")
    kept, gone = without_duplicates(sorted([composed, written], key=preference), 0.85)
    assert kept == [written]
    assert [(one.reason, one.row) for one in gone] == [("the same", composed)]


def test_nearly_the_same_goes_and_another_answer_stays() -> None:
    first, near, other = (
        row("오늘 뭐했어?", LONG),
        row("오늘 뭐했어?", LONG + " 헤헤"),
        row("오늘 뭐했어?", "비밀이야"),
    )
    kept, gone = without_duplicates([first, near, other], 0.85)
    assert kept == [first, other]
    assert gone[0].reason == "nearly the same"


def test_a_row_is_only_dropped_for_one_that_stays() -> None:
    words = LONG.split()
    chain = [row("응", " ".join([*words[step:], *words[:step]])) for step in range(len(words))]
    kept, gone = without_duplicates(chain, 0.8)
    alike = {frozenset((chain[a].id, chain[b].id)) for a, b in similar_pairs(chain, 0.8)}
    for one in gone:
        assert any(frozenset((one.row.id, stays.id)) in alike for stays in kept)


def test_mixing_takes_what_is_wanted_and_says_what_is_missing() -> None:
    mixed = mix(many("persona", 20) + many("safety", 3), {"persona": 10, "safety": 5}, keep_ratio=False, seed=0)
    assert Counter(one.kind for one in mixed.rows) == {"persona": 10, "safety": 3}
    assert mixed.shortfall == {"safety": 2}
    assert len(mixed.dropped) == 10


def test_a_ratio_is_kept_when_one_kind_is_short() -> None:
    rows = many("persona", 60) + many("worldview", 20) + many("safety", 10)
    mixed = mix(rows, {"persona": 60, "worldview": 20, "safety": 20}, keep_ratio=True, seed=0)
    assert Counter(one.kind for one in mixed.rows) == {"persona": 30, "worldview": 10, "safety": 10}


def test_hand_written_rows_are_taken_first() -> None:
    seeds = [row(f"손으로 쓴 말 {n}", f"대답 {n * 31}", source="seeds") for n in range(5)]
    mixed = mix(many("persona", 50) + seeds, {"persona": 10}, keep_ratio=False, seed=0)
    assert {one.id for one in seeds} <= {one.id for one in mixed.rows}


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(30)), seed=st.integers(0, 3))
def test_mix_and_split_do_not_depend_on_the_order_of_rows(order: list[int], seed: int) -> None:
    rows = many("persona", 30)
    shuffled = [rows[position] for position in order]
    wanted: dict[Kind, int] = {"persona": 20}
    assert mix(shuffled, wanted, False, seed).rows == mix(rows, wanted, False, seed).rows
    assert split(shuffled, 0.2, 0.7, seed) == split(rows, 0.2, 0.7, seed)


def test_a_split_holds_its_share_and_every_row_once() -> None:
    rows = many("persona", 200)
    sides = split(rows, 0.1, 0.9, seed=1)
    assert sorted(one.id for side in sides.values() for one in side) == sorted(one.id for one in rows)
    assert len(sides["validation"]) == 20


def test_rows_that_are_alike_or_open_alike_stay_on_one_side() -> None:
    variants = [
        [row(f"{n}번째 이야기 해줘", LONG[: 30 + 2 * v] + f"{n * 7919}") for v in range(3)] for n in range(40)
    ]
    same_opening = [row("같은 말로 시작", f"대답은 이거야 {n * 104729}") for n in range(4)]
    rows = [one for group in variants for one in group] + same_opening
    sides = split(rows, 0.3, 0.6, seed=2)
    side_of = {one.id: side for side, members in sides.items() for one in members}
    ordered = sorted(rows, key=lambda one: one.id)
    for a, b in similar_pairs(ordered, 0.6):
        assert side_of[ordered[a].id] == side_of[ordered[b].id]
    assert len({side_of[one.id] for one in same_opening}) == 1


@pytest.mark.parametrize("seed", [1, 2])
def test_another_seed_gives_another_selection(seed: int) -> None:
    rows = many("persona", 100)
    assert mix(rows, {"persona": 30}, False, 0).rows != mix(rows, {"persona": 30}, False, seed).rows
