"""Conversations that fans agreed to share. Without a live consent not one word of them is read in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from core.contracts import USER_MACRO
from core.errors import ConfigurationError
from data_pipelines.config import ChatLogSource
from data_pipelines.rows import Row, Turn
from data_pipelines.sources.base import Collected, Line, hashes, json_lines, row_at, spoken_messages
from data_pipelines.stages.personal_data import ID_LABEL
from personas.macros import mask as mask_name


class Consent(BaseModel):
    """What a fan allowed, and until when."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    consent_id: str
    fan_id: str
    scope: str | tuple[str, ...]
    """What is allowed, such as ``training``."""

    granted_at: datetime
    withdrawn_at: datetime | None = None
    fan_name: str | None = None
    """The fan's name: masked wherever it is said, and never kept."""

    @property
    def withdrawn(self) -> bool:
        return self.withdrawn_at is not None

    def allows(self, scope: str) -> bool:
        """Whether it is live for ``scope``; a withdrawal counts from the moment it is known."""
        scopes = self.scope.split() if isinstance(self.scope, str) else self.scope
        return scope in scopes and not self.withdrawn and _aware(self.granted_at) <= datetime.now(UTC)

    def covers(self, said_at: datetime) -> bool:
        """Whether it was given before that was said."""
        return _aware(self.granted_at) <= _aware(said_at)


@dataclass(frozen=True)
class Consents:
    """All consents of a file by id."""

    by_id: dict[str, Consent]

    def live(self, consent_id: str, scope: str) -> Consent | None:
        """The consent when it is live for ``scope``."""
        found = self.by_id.get(consent_id)
        return found if found and found.allows(scope) else None


def read_consents(path: Path) -> Consents:
    """The consents of a JSON lines file; of lines with the same id a withdrawal wins over everything."""
    found: dict[str, Consent] = {}
    for line in json_lines(path):
        try:
            consent = Consent.model_validate(line.values)
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigurationError(f"{line.place}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        before = found.get(consent.consent_id)
        if before is None or not before.withdrawn:
            found[consent.consent_id] = consent
    return Consents(found)


def chat_logs(source: ChatLogSource, rows_path: Path, consents_path: Path, character: str) -> Collected:
    """The rows that may be used, with names and ids of the fans masked; the others are only counted."""
    consents = read_consents(consents_path)
    rows: list[Row] = []
    skipped: dict[str, int] = {}
    for line in json_lines(rows_path):
        consent = consents.live(str(line.values.get("consent_id")), source.scope)
        reason = _refusal(line, consent, character)
        if consent is None or reason:
            skipped[reason or "no live consent"] = skipped.get(reason or "no live consent", 0) + 1
        else:
            rows.append(_row(source, line, consent, character))
    return Collected("chat_logs", "consent of the fans", rows, hashes(rows_path, consents_path), skipped)


def _refusal(line: Line, consent: Consent | None, character: str) -> str | None:
    """Why a row stays out; looks at everything but the conversation."""
    values = line.values
    if consent is None:
        return "no live consent"
    if values.get("character_id") != character:
        return "another character's"
    if values.get("fan_id", consent.fan_id) != consent.fan_id:
        return "the consent is another fan's"
    return None if consent.covers(_said_at(line)) else "said before the consent was given"


def _said_at(line: Line) -> datetime:
    try:
        return datetime.fromisoformat(str(line.values["timestamp"]))
    except (KeyError, ValueError) as error:
        raise ConfigurationError(f"{line.place}: timestamp: is missing or not ISO 8601") from error


def _row(source: ChatLogSource, line: Line, consent: Consent, character: str) -> Row:
    values: dict[str, Any] = line.values
    names = [name for name in (consent.fan_name, values.get("fan_name")) if name]
    turns = [_masked(turn, names, consent.fan_id) for turn in spoken_messages(values, line.place)]
    return row_at(
        line.place,
        character_id=character,
        dataset_source="chat_logs",
        kind=values.get("kind", source.kind),
        category=values.get("category", "chat"),
        timestamp=_said_at(line).isoformat(),
        consent_id=consent.consent_id,
        messages=tuple(turns),
        style_tags=tuple(values.get("style_tags") or ()),
        safety_flags=tuple(values.get("safety_flags") or ()),
    )


def _masked(turn: Turn, names: Iterable[str], fan_id: str) -> Turn:
    text = turn.content.replace(fan_id, ID_LABEL)
    for name in names:
        text = mask_name(text, name).replace(name, USER_MACRO) if len(name) > 1 else text
    return turn.model_copy(update={"content": text})


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
