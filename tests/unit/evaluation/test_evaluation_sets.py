"""The sets that ship: whole, unique, of the promised size, and scoreable."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import get_args

import pytest

from evaluation.items import (
    SETS_DIR,
    IdentityItem,
    Item,
    KnowledgeItem,
    MemoryItem,
    PersonaItem,
    SafetyCategory,
    SafetyItem,
    SetKind,
    load_items,
)
from evaluation.knowledge import documents_of
from evaluation.matching import REGEX_MARK, holds

FILES = sorted(SETS_DIR.glob("*/*.jsonl"))

ARTISTS = frozenset({"haneul", "mir"})
"""They have the full sets; other characters have smaller ones of their own."""

# A question that offers both answers names the right one as well.
CHOICE = re.compile(r"か.+か[?？]?$|아니면| or ")


def of_kind(kind: SetKind) -> list[str]:
    return [path.parent.name for path in FILES if path.stem == kind]


def items(character: str, kind: SetKind) -> list[Item]:
    return load_items(SETS_DIR / character / f"{kind}.jsonl", kind)


def lines(item: Item) -> Iterator[str]:
    return chain.from_iterable(item.script().sessions)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_set_can_be_read_and_asks_nothing_twice(path) -> None:
    read = load_items(path, SetKind(path.stem))
    asked = Counter(tuple(lines(item)) for item in read)
    assert [turns for turns, count in asked.items() if count > 1] == []
    assert [item.id for item in read if not item.id.startswith(path.parent.name)] == []


@pytest.mark.parametrize("character", of_kind(SetKind.PERSONA))
def test_the_persona_set_is_of_the_promised_size(character: str) -> None:
    kinds = Counter(item.kind for item in items(character, SetKind.PERSONA) if isinstance(item, PersonaItem))
    if character in ARTISTS:
        assert kinds == {"normal": 70, "break": 30}
    assert kinds["normal"] >= 40
    assert kinds["break"] >= 20


@pytest.mark.parametrize("character", of_kind(SetKind.SAFETY))
def test_the_safety_set_has_attacks_of_all_categories(character: str) -> None:
    categories = Counter(item.category for item in items(character, SetKind.SAFETY) if isinstance(item, SafetyItem))
    assert categories.total() >= (50 if character in ARTISTS else 30)
    expected = get_args(SafetyCategory) if character in ARTISTS else categories
    assert {
        name: categories[name] for name in expected if categories[name] < (4 if character in ARTISTS else 3)
    } == {}


@pytest.mark.parametrize("character", of_kind(SetKind.MEMORY))
def test_the_memory_set_has_twenty_scenarios_that_tell_before_they_ask(character: str) -> None:
    scenarios = [item for item in items(character, SetKind.MEMORY) if isinstance(item, MemoryItem)]
    assert len(scenarios) >= (20 if character in ARTISTS else 10)
    recalls = [recall for item in scenarios for recall in item.recalls()]
    assert len(recalls) >= 2 * len(scenarios)
    assert {recall.kind for recall in recalls} == {"name", "favourite", "birthday", "fact"}
    assert any(recall.across_sessions for recall in recalls)
    for item in scenarios:
        for recall in item.recalls():
            question = item.sessions[recall.session][recall.turn].user
            assert not [gold for gold in recall.gold if holds(question, gold)], f"{item.id}: {question} gives it away"


@pytest.mark.parametrize("character", of_kind(SetKind.MEMORY))
def test_what_is_asked_was_said_where_told_says(character: str) -> None:
    for item in items(character, SetKind.MEMORY):
        assert isinstance(item, MemoryItem)
        for turn in (turn for session in item.sessions for turn in session if turn.told):
            session, place = (int(part) - 1 for part in str(turn.told).split("."))
            said = item.sessions[session][place].user
            assert any(holds(said, gold) for gold in turn.gold), f"{item.id}: {turn.told} does not say {turn.gold}"


@pytest.mark.parametrize("character", of_kind(SetKind.IDENTITY))
def test_the_identity_set_covers_three_languages(character: str) -> None:
    read = [item for item in items(character, SetKind.IDENTITY) if isinstance(item, IdentityItem)]
    assert len(read) >= 40
    assert {item.reply_language for item in read} == {"ko", "ja", "en"}
    assert {item.kind for item in read} == {"identity", "cross_language"}


@pytest.mark.parametrize("character", of_kind(SetKind.KNOWLEDGE))
def test_gold_answers_stand_in_their_documents_and_not_in_the_questions(character: str) -> None:
    documents = documents_of(character)
    read = [item for item in items(character, SetKind.KNOWLEDGE) if isinstance(item, KnowledgeItem)]
    for item in (item for item in read if item.answerable):
        assert item.passage in documents[str(item.doc)].text, item.id
        assert any(holds(str(item.passage), gold) for gold in item.gold), item.id
        given_away = [gold for gold in item.gold if not gold.startswith(REGEX_MARK) and holds(item.question, gold)]
        assert given_away == [] or CHOICE.search(item.question), f"{item.id}: {item.question}"
    assert sum(not item.answerable for item in read) >= 60
    assert {item.kind for item in read} == {"keyword", "context", "abstract", "unanswerable"}
