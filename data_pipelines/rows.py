"""A conversation of a data set: its schema, its canonical form and the id that follows from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from core.contracts import Role

Kind = Literal["persona", "worldview", "safety", "identity", "multilingual"]

KINDS: dict[str, Kind] = {
    "world": "worldview",
    "knowledge": "worldview",
    "not_in_documents": "worldview",
    "refusal": "safety",
    "identity": "identity",
    "english": "multilingual",
    "japanese": "multilingual",
}
"""Kind of each category of hand-written and composed conversations; the others are persona."""

READS_CONTEXT = "reads_context"
"""Style tag of rows that show retrieved context, as a system message before the fan's words."""

ID_CHARS = 32
"""Characters of a row's id: 128 bits of SHA-256."""


def kind_of(category: str) -> Kind:
    """A kind's own name, or the kind that a category belongs to."""
    named: dict[str, Kind] = {kind: kind for kind in get_args(Kind)}
    return named.get(category) or KINDS.get(category, "persona")


class Turn(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Role
    """Who speaks; ``system`` in the middle of a conversation is retrieved context."""

    content: str
    """What is said, with ``{{user}}`` for the fan's name."""


class Row(BaseModel):
    """One conversation without its system prompt, which training puts before it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    """Hash of source, character, kind, category and messages."""

    character_id: str
    """Whose conversation it is; a data set holds one character only."""

    dataset_source: str
    """Which source gave it: ``seeds``, ``facts``, ``grammar``, ``chat_logs``, ``generated`` or a file's name."""

    kind: Kind
    """What it teaches; mixing goes by this."""

    category: str
    """Finer subject, as the source calls it."""

    timestamp: str | None = None
    """When it was said (ISO 8601); unset for written and composed conversations."""

    consent_id: str | None = None
    """The consent under which it was collected; unset where nobody's talk was collected."""

    messages: tuple[Turn, ...] = Field(min_length=1)
    style_tags: tuple[str, ...] = ()
    """Marks of the source, such as ``reads_context``."""

    safety_flags: tuple[str, ...] = ()
    """What was found and masked on the way, such as ``masked:phone``."""

    @model_validator(mode="after")
    def _id_is_the_content(self) -> Row:
        if self.id != row_id(self):
            raise ValueError("id does not follow from the content: the row was changed after it was made")
        return self

    def texts(self, role: Role) -> list[str]:
        """What ``role`` says, in order."""
        return [turn.content for turn in self.messages if turn.role == role]

    def with_messages(self, messages: Iterable[Turn], flags: Iterable[str] = ()) -> Row:
        """The same row saying something else; its id follows."""
        return make_row(
            **self.model_dump(exclude={"id", "messages", "safety_flags"}),
            messages=tuple(messages),
            safety_flags=tuple(dict.fromkeys((*self.safety_flags, *flags))),
        )


def make_row(**values: Any) -> Row:
    """A validated row; the id is worked out from the rest."""
    draft = Row.model_construct(**values)
    messages = tuple(Turn.model_validate(turn) if isinstance(turn, dict) else turn for turn in values["messages"])
    draft = draft.model_copy(update={"messages": messages})
    return Row.model_validate({**values, "id": row_id(draft), "messages": messages})


def row_id(row: Row) -> str:
    """The id that belongs to the row's content."""
    content = [row.dataset_source, row.character_id, row.kind, row.category, row.consent_id]
    said = [[turn.role, turn.content] for turn in row.messages]
    return hashlib.sha256(canonical_json([*content, said]).encode()).hexdigest()[:ID_CHARS]


def canonical_json(value: object) -> str:
    """One spelling for equal values, on every machine."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def canonical(row: Row) -> str:
    """The row as one line."""
    return canonical_json(row.model_dump(mode="json"))


def parse(line: str) -> Row:
    """A row from its canonical line; raises pydantic's ``ValidationError``."""
    return Row.model_validate_json(line)


def content_hash(splits: Mapping[str, Sequence[Row]]) -> str:
    """SHA-256 over the canonical rows of all splits, each ordered by id: files and their number play no part."""
    digest = hashlib.sha256()
    for split in sorted(splits):
        for row in sorted(splits[split], key=lambda one: one.id):
            digest.update(f"{split}\x00{canonical(row)}\n".encode())
    return digest.hexdigest()
