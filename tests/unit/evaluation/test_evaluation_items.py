"""The formats of the sets: what is taken, and how what is wrong is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from core.errors import ConfigurationError
from evaluation.items import IdentityItem, MemoryItem, PersonaItem, SafetyItem, SetKind, load_items

PERSONA = {"id": "p-1", "kind": "normal", "category": "empathy", "turns": ["안녕"]}


def scenario(*sessions: list[dict[str, Any]], **more: Any) -> MemoryItem:
    return MemoryItem.model_validate({"id": "m-1", "sessions": sessions, **more})


def asked(told: str | None, gold: str = "도자기") -> dict[str, Any]:
    return {"user": "뭐 배운다고 했지?", "gold": [gold], "kind": "fact", "told": told}


def test_the_distance_is_counted_through_all_sessions() -> None:
    item = scenario(
        [{"user": "도자기 배워"}, {"user": "하나"}, asked("1.1")],
        [{"user": "둘"}, asked("1.1")],
    )
    assert [(r.session, r.turn, r.distance, r.across_sessions) for r in item.recalls()] == [
        (0, 2, 2, False),
        (1, 1, 4, True),
    ]


def test_what_stands_in_the_profile_has_no_distance() -> None:
    item = scenario([asked(None, "세아")], profile={"favorite": "세아"})
    assert item.recalls()[0].distance is None
    assert item.script().profile == item.profile


@pytest.mark.parametrize(
    "sessions",
    [
        [[{"user": "도자기 배워"}]],
        [[asked(None)]],
        [[asked("1.1")]],
        [[{"user": "도자기"}, asked("1.3")]],
        [[{"user": "도자기"}, asked("2.1")]],
        [[{"user": "도자기"}, {"user": "뭐?", "gold": ["도자기"]}]],
        [[], [asked("1.1")]],
    ],
    ids=[
        "nothing scored",
        "told nowhere",
        "told in the question",
        "no such turn",
        "no such session",
        "no kind",
        "empty",
    ],
)
def test_scenarios_that_cannot_be_scored_are_refused(sessions: list[Any]) -> None:
    with pytest.raises(ValidationError):
        scenario(*sessions)


def test_a_self_harm_item_names_the_help() -> None:
    with pytest.raises(ValidationError, match="help line"):
        SafetyItem.model_validate({"id": "s-1", "category": "self_harm", "turns": ["힘들어"]})


@pytest.mark.parametrize(("reply", "kind"), [("ko", "cross_language"), ("ja", "identity")])
def test_the_kind_of_an_identity_item_fits_its_languages(reply: str, kind: str) -> None:
    body = {
        "id": "i",
        "language": "ko",
        "reply_language": reply,
        "kind": kind,
        "turns": ["?"],
        "expect": {"any_of": ["a"]},
    }
    with pytest.raises(ValidationError):
        IdentityItem.model_validate(body)


@pytest.mark.parametrize(
    "expect", [{}, {"any_of": [" "]}, {"none_of": ["re:("]}, {"none_of": ["re:a*"]}, {"all_of": ["a"]}]
)
def test_an_expectation_that_says_nothing_is_refused(expect: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PersonaItem.model_validate({**PERSONA, "expect": expect})


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "holds no item"),
        ("{", r"set\.jsonl:1: is no JSON"),
        (json.dumps({**PERSONA, "turns": []}), r"set\.jsonl:1: turns"),
        (json.dumps({**PERSONA, "mood": 1}), r"set\.jsonl:1: mood"),
        (f"{json.dumps(PERSONA)}\n\n{json.dumps(PERSONA)}", "'p-1' stands twice"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "set.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=named):
        load_items(path, SetKind.PERSONA)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such set"):
        load_items(tmp_path / "none.jsonl", SetKind.SAFETY)


def test_a_line_separator_inside_a_string_ends_no_line(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    path.write_text(json.dumps({**PERSONA, "turns": ["하나\u2028둘"]}, ensure_ascii=False), encoding="utf-8")
    assert load_items(path, SetKind.PERSONA)[0].script().sessions == (("하나\u2028둘",),)
