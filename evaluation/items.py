"""The items of the evaluation sets, as ``evaluation/sets/README.md`` describes them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from core.errors import ConfigurationError
from evaluation.matching import REGEX_MARK

SETS_DIR = Path(__file__).parent / "sets"

Language = Literal["ko", "ja", "en"]
SafetyCategory = Literal[
    "abuse", "sexual", "demeaning", "personal_data", "jailbreak", "self_harm", "dangerous", "forbidden_topic"
]
MemoryKind = Literal["name", "favourite", "birthday", "fact"]
QuestionKind = Literal["keyword", "context", "abstract", "unanswerable"]


class SetKind(StrEnum):
    """What is evaluated; also the name of the set's file."""

    PERSONA = "persona"
    SAFETY = "safety"
    MEMORY = "memory"
    IDENTITY = "identity"
    KNOWLEDGE = "knowledge"


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("is blank")
    return text


def _matchable(text: str) -> str:
    if text.startswith(REGEX_MARK):
        try:
            compiled = re.compile(text.removeprefix(REGEX_MARK))
        except re.error as error:
            raise ValueError(f"{text!r} is no regular expression ({error})") from error
        if compiled.search(""):
            raise ValueError(f"{text!r} matches the empty text")
    return _not_blank(text)


Line = Annotated[str, AfterValidator(_not_blank)]
Matchable = Annotated[str, AfterValidator(_matchable)]
ItemId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Snake = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Profile(Strict):
    """What a fan fills into the form; strings may hold ``{{user}}``."""

    name: Line | None = None
    birthday: str | None = Field(default=None, pattern=r"^(\d{4}-)?\d{2}-\d{2}$")
    favorite: Line | None = None


class Script(Strict):
    """What is played: the fan's lines by session, and what the platform knows of the fan before the first."""

    sessions: tuple[tuple[str, ...], ...]
    profile: Profile | None = None


ANYBODY = Profile(name="{{user}}")
"""A fan of whom the platform knows the name alone: who speaks in every set but memory."""


class Expect(Strict):
    any_of: tuple[Matchable, ...] = ()
    """The last reply must hold one of these."""

    none_of: tuple[Matchable, ...] = ()
    """No reply may hold any of these."""

    @model_validator(mode="after")
    def _says_something(self) -> Expect:
        if not self.any_of and not self.none_of:
            raise ValueError("needs any_of or none_of")
        return self


class _Item(Strict):
    id: ItemId
    turns: tuple[Line, ...] = Field(min_length=1)

    def script(self) -> Script:
        return Script(sessions=(self.turns,), profile=ANYBODY)


class PersonaItem(_Item):
    kind: Literal["normal", "break"]
    category: Snake
    expect: Expect | None = None


class SafetyItem(_Item):
    category: SafetyCategory
    expect: Expect | None = None

    @model_validator(mode="after")
    def _names_help(self) -> SafetyItem:
        if self.category == "self_harm" and not (self.expect and self.expect.any_of):
            raise ValueError("a self_harm item needs expect.any_of: the help line to name")
        return self


class IdentityItem(_Item):
    language: Language
    reply_language: Language
    kind: Literal["identity", "cross_language"]
    expect: Expect

    @model_validator(mode="after")
    def _languages_fit(self) -> IdentityItem:
        if (self.language == self.reply_language) != (self.kind == "identity"):
            raise ValueError("'identity' keeps the language, 'cross_language' changes it")
        return self


class MemoryTurn(Strict):
    user: Line
    gold: tuple[Matchable, ...] = ()
    kind: MemoryKind | None = None
    told: str | None = Field(default=None, pattern=r"^[1-9]\d*\.[1-9]\d*$")

    @model_validator(mode="after")
    def _scored_or_not(self) -> MemoryTurn:
        if bool(self.gold) != bool(self.kind):
            raise ValueError("a scored turn has gold and kind, another has neither")
        if self.told and not self.gold:
            raise ValueError("told without gold")
        return self


class Recall(Strict):
    """A scored turn of a scenario; ``session`` and ``turn`` count from 0."""

    session: int
    turn: int
    gold: tuple[str, ...]
    kind: MemoryKind
    distance: int | None
    """Turns since it was told, through all sessions; none: it stood in the profile."""

    across_sessions: bool


class MemoryItem(Strict):
    id: ItemId
    profile: Profile | None = None
    sessions: tuple[tuple[MemoryTurn, ...], ...] = Field(min_length=1)

    def script(self) -> Script:
        lines = tuple(tuple(turn.user for turn in session) for session in self.sessions)
        return Script(sessions=lines, profile=self.profile)

    def recalls(self) -> list[Recall]:
        """The scored turns, in order."""
        return [
            self._recall(s, t, turn)
            for s, session in enumerate(self.sessions)
            for t, turn in enumerate(session)
            if turn.gold
        ]

    def _recall(self, session: int, turn: int, asked: MemoryTurn) -> Recall:
        assert asked.kind is not None, "a turn with gold has a kind"
        distance = None
        if asked.told:
            distance = self._position(session, turn) - self._position(*_place(asked.told))
        across = asked.told is None or _place(asked.told)[0] != session
        return Recall(
            session=session,
            turn=turn,
            gold=asked.gold,
            kind=asked.kind,
            distance=distance,
            across_sessions=across,
        )

    def _position(self, session: int, turn: int) -> int:
        return sum(len(before) for before in self.sessions[:session]) + turn

    @model_validator(mode="after")
    def _told_before(self) -> MemoryItem:
        if not all(self.sessions):
            raise ValueError("a session has no turn")
        recalls = self.recalls()
        if not recalls:
            raise ValueError("no turn is scored")
        for recall in recalls:
            asked = self.sessions[recall.session][recall.turn]
            if asked.told:
                s, t = _place(asked.told)
                if s >= len(self.sessions) or t >= len(self.sessions[s]):
                    raise ValueError(f"told {asked.told}: there is no such turn")
            if recall.distance is not None and recall.distance < 1:
                raise ValueError(f"told {asked.told}: is not before the question")
            if recall.distance is None and self.profile is None:
                raise ValueError(f"{asked.user!r} is told nowhere: give told or profile")
        return self


def _place(told: str) -> tuple[int, int]:
    session, turn = told.split(".")
    return int(session) - 1, int(turn) - 1


class KnowledgeItem(Strict):
    id: ItemId
    kind: QuestionKind
    question: Line
    answerable: bool
    gold: tuple[Matchable, ...] = ()
    doc: str | None = None
    passage: str | None = None
    """The document's sentence that holds the answer."""

    language: Language = "ko"

    def script(self) -> Script:
        return Script(sessions=((self.question,),), profile=ANYBODY)

    @model_validator(mode="after")
    def _answer_fits(self) -> KnowledgeItem:
        if self.answerable != bool(self.gold and self.doc and self.passage):
            raise ValueError("answerable means gold, doc and passage; unanswerable means none of them")
        if self.answerable == (self.kind == "unanswerable"):
            raise ValueError("kind 'unanswerable' is for questions without an answer")
        return self


Item = PersonaItem | SafetyItem | MemoryItem | IdentityItem | KnowledgeItem

_MODELS: dict[SetKind, type[Item]] = {
    SetKind.PERSONA: PersonaItem,
    SetKind.SAFETY: SafetyItem,
    SetKind.MEMORY: MemoryItem,
    SetKind.IDENTITY: IdentityItem,
    SetKind.KNOWLEDGE: KnowledgeItem,
}


def set_path(character: str, kind: SetKind) -> Path:
    """Where a character's set lies."""
    return SETS_DIR / character / f"{kind}.jsonl"


def load_items(path: Path, kind: SetKind) -> list[Item]:
    """Read a set.

    Raises:
        ConfigurationError: The file is missing, empty or wrong somewhere; names the line and the field.
    """
    if not path.is_file():
        raise ConfigurationError(f"{path}: no such set; see evaluation/sets/README.md")
    lines = path.read_text(encoding="utf-8").split("\n")
    items = [_parse(line, f"{path}:{number}", kind) for number, line in enumerate(lines, 1) if line.strip()]
    if not items:
        raise ConfigurationError(f"{path}: holds no item")
    _refuse_twins(items, path)
    return items


def _parse(line: str, place: str, kind: SetKind) -> Item:
    try:
        return _MODELS[kind].model_validate(json.loads(line))
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"{place}: is no JSON ({error})") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the item"
        raise ConfigurationError(f"{place}: {field}: {first['msg']}") from error


def _refuse_twins(items: Sequence[Item], path: Path) -> None:
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise ConfigurationError(f"{path}: the id {item.id!r} stands twice")
        seen.add(item.id)
