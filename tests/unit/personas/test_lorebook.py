import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.contracts import Message
from personas.lorebook import MAX_ROUNDS, Lorebook, LoreEntry, active_entries, lore_passages


def entry(content: str, *keys: str, **fields: Any) -> LoreEntry:
    return LoreEntry.model_validate({"content": content, "keys": keys, **fields})


def active(*entries: LoreEntry, said: str | list[str] = "", **fields: Any) -> list[str]:
    book = Lorebook.model_validate({"entries": entries, "token_budget": 1000, **fields})
    texts = [said] if isinstance(said, str) else said
    return [found.content for found in active_entries(book, [Message("user", text) for text in texts], len)]


@pytest.mark.parametrize(
    ("fields", "said", "expected"),
    [
        ({}, "등대가 보여?", True),
        ({}, "바다가 보여?", False),
        ({"enabled": False}, "등대", False),
        ({"keys": ("Lamp",)}, "the LAMP", True),
        ({"keys": ("Lamp",), "case_sensitive": True}, "the LAMP", False),
        ({"keys": ("Lamp",), "case_sensitive": True}, "the Lamp", True),
        ({"keys": ("", "  ")}, "등대", False),
        ({"keys": (), "constant": True}, "", True),
        ({"constant": True, "enabled": False}, "등대", False),
        ({"secondary_keys": ("밤",), "selective": True}, "등대", False),
        ({"secondary_keys": ("밤",), "selective": True}, "밤의 등대", True),
        ({"secondary_keys": ("밤",), "selective": False}, "등대", True),
        ({"secondary_keys": ("",), "selective": True}, "등대", True),
        ({"keys": (r"등\S+지기",), "use_regex": True}, "등대지기야?", True),
        ({"keys": (r"/LAMP\d/i",), "use_regex": True}, "lamp7", True),
        ({"keys": (r"/LAMP\d/",), "use_regex": True}, "lamp7", False),
        ({"keys": ("(", "등대"), "use_regex": True}, "등대", True),
        ({"keys": ("(",), "use_regex": True}, "(", False),
        ({"keys": ("a" * 501,), "use_regex": True}, "a" * 600, False),
    ],
)
def test_when_an_entry_is_called_up(fields: dict[str, Any], said: str, expected: bool) -> None:
    assert active(entry("등대는 1902년에 섰다.", **{"keys": ("등대",), **fields}), said=said) == (
        ["등대는 1902년에 섰다."] if expected else []
    )


def test_an_entry_without_content_never_enters_the_prompt() -> None:
    assert active(entry("  \n", "등대"), said="등대") == []


def test_decomposed_hangul_is_found() -> None:
    import unicodedata

    assert active(entry("x", "등대"), said=unicodedata.normalize("NFD", "등대")) == ["x"]


@pytest.mark.parametrize(("depth", "found"), [(1, []), (2, ["x"]), (0, []), (None, ["x"])])
def test_only_the_latest_messages_are_looked_at(depth: int | None, found: list[str]) -> None:
    assert active(entry("x", "등대"), said=["등대", "바다"], scan_depth=depth) == found


def test_entries_stand_in_their_order_of_insertion() -> None:
    entries = [
        entry("b", "k", insertion_order=20),
        entry("a", "k", insertion_order=10),
        entry("c", "k", insertion_order=20),
    ]
    assert active(*entries, said="k") == ["a", "b", "c"]


def test_what_has_the_lowest_priority_is_left_out_when_the_budget_is_spent() -> None:
    low = entry("low-", "k", priority=1, insertion_order=1)
    high = entry("high", "k", priority=9, insertion_order=2)
    always = entry("all.", constant=True, priority=0, insertion_order=3)
    assert active(low, high, always, said="k", token_budget=8) == ["high", "all."]
    assert active(low, high, always, said="k", token_budget=0) == []


def test_lore_calls_up_lore_only_where_the_book_says_so_and_not_without_end() -> None:
    chain = [entry(f"key{index + 1}", f"key{index}") for index in range(10)]
    assert active(*chain, said="key0") == ["key1"]
    assert len(active(*chain, said="key0", recursive_scanning=True)) == 1 + MAX_ROUNDS


def test_a_circle_of_lore_ends() -> None:
    assert active(entry("b", "a"), entry("a", "b"), said="a", recursive_scanning=True) == ["b", "a"]


def test_evil_expressions_share_one_short_time() -> None:
    evil = [entry("x", r"(\w+\s?)+$", use_regex=True, name=str(index)) for index in range(200)]
    started = time.process_time()
    active(*evil, entry("y", "plain"), said="a" * 5000 + "!")
    assert time.process_time() - started < 1.0


def test_lore_is_knowledge_in_the_prompt() -> None:
    book = Lorebook(entries=(entry("등대는 1902년에 섰다.", "등대", name="lamp"),))
    (passage,) = lore_passages(book, [Message("user", "등대")], len)
    assert (passage.text, passage.title, passage.kind) == ("등대는 1902년에 섰다.", "lamp", "knowledge")
    assert lore_passages(None, [], len) == []


ENTRIES = st.builds(
    LoreEntry,
    keys=st.lists(st.text(alphabet="ab(|*+", max_size=4), max_size=3).map(tuple),
    content=st.text(alphabet="ab ", max_size=12),
    enabled=st.booleans(),
    constant=st.none() | st.booleans(),
    use_regex=st.booleans(),
    priority=st.none() | st.integers(-5, 5),
    insertion_order=st.integers(-5, 5),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(ENTRIES, max_size=8), st.text(alphabet="ab ", max_size=30), st.integers(0, 40), st.booleans())
def test_active_lore_is_enabled_ordered_and_within_its_budget(
    entries: list[LoreEntry], said: str, budget: int, recursive: bool
) -> None:
    book = Lorebook(entries=tuple(entries), token_budget=budget, recursive_scanning=recursive)
    found = active_entries(book, [Message("user", said)], len)
    assert sum(len(item.content) for item in found) <= budget
    assert [item.insertion_order for item in found] == sorted(item.insertion_order for item in found)
    assert all(item.enabled and item.content.strip() for item in found)
    assert len({id(item) for item in found}) == len(found)
