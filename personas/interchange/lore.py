"""``character_book`` to our lorebook and back.

What an import changes or does not know stays beside it, under ``SOURCE`` in the extensions; an export gives it back
for as long as nobody has edited what was made of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import JsonValue, ValidationError

from personas.interchange.bounds import refuse, refuse_field
from personas.interchange.placeholders import resolve, without_decorators
from personas.interchange.spec import SpecVersion
from personas.lorebook import Lorebook, LoreEntry

SOURCE = "artistmind/source"
"""Our key in ``extensions``: what the imported file said, where that is not what our field says."""

Json = dict[str, JsonValue]
ModelT = TypeVar("ModelT", Lorebook, LoreEntry)

_APART = {"entries", "extensions"}
"""Fields that are written by rules of their own."""


def to_lorebook(raw: Json, name: str, source: str) -> Lorebook:
    """Read a lorebook; the character's name is filled in, and ``@@`` lines are taken off the content."""
    entries = raw.get("entries")
    if isinstance(entries, dict):  # worlds of some programs number their entries
        entries = list(entries.values())
    if not isinstance(entries, list):
        refuse(source, "field 'character_book.entries' is missing or not a list", "Export the card again.")
    read = [_entry(item, name, source, index) for index, item in enumerate(entries)]
    known = {key: value for key, value in raw.items() if key in Lorebook.model_fields and key != "entries"}
    return _read(Lorebook, raw, {**known, "entries": read}, source, "character_book")


def to_character_book(book: Lorebook, name: str, version: SpecVersion) -> Json:
    """The lorebook as the published formats have it."""
    out = _written(book, lambda raw: to_lorebook({**raw, "entries": []}, name, "export"))
    entries: list[JsonValue] = [_entry_out(entry, name, version) for entry in book.entries]
    return {"extensions": {}, **out, "entries": entries}


def _entry(raw: JsonValue, name: str, source: str, index: int) -> LoreEntry:
    field = f"character_book.entries.{index}"
    if not isinstance(raw, dict):
        refuse(source, f"field '{field}' is not an object", "Export the card again.")
    known: dict[str, Any] = {key: value for key, value in raw.items() if key in LoreEntry.model_fields}
    if isinstance(content := raw.get("content"), str):
        known["content"] = resolve(without_decorators(content), name)
    for key in ("keys", "secondary_keys"):
        if isinstance(words := raw.get(key), list):
            known[key] = [resolve(word, name) if isinstance(word, str) else word for word in words]
    return _read(LoreEntry, raw, known, source, field)


def _entry_out(entry: LoreEntry, name: str, version: SpecVersion) -> Json:
    defaults: Json = {"keys": [], "content": "", "extensions": {}, "enabled": True, "insertion_order": 0}
    if version == "v3":
        defaults["use_regex"] = False
    return defaults | _written(entry, lambda raw: _entry(raw, name, "export", 0))


def _read(model: type[ModelT], raw: Json, known: dict[str, Any], source: str, field: str) -> ModelT:
    """A model of the known fields, with whatever it does not repeat word for word under ``SOURCE``."""
    given = {key: value for key, value in known.items() if value is not None}
    if isinstance(extensions := given.get("extensions"), dict):
        given["extensions"] = {key: value for key, value in extensions.items() if key != SOURCE}
    try:
        plain = model.model_validate(given)
    except ValidationError as error:
        refuse_field(source, field, error, "Correct it in the program that wrote the card.")
    same = plain.model_dump(mode="json", exclude_unset=True)
    kept = {key: value for key, value in raw.items() if key not in _APART and not _same(same.get(key, ...), value)}
    if not kept:
        return plain
    return plain.model_copy(update={"extensions": {**plain.extensions, SOURCE: kept}})


def _same(ours: Any, theirs: JsonValue) -> bool:
    """Equal, and of one kind: 1 is neither 1.0 nor true."""
    return repr(ours) == repr(theirs)


def _written(model: ModelT, again: Callable[[Json], ModelT]) -> Json:
    """The fields that are set, with what the import put aside wherever it still says the same."""
    out: Json = model.model_dump(mode="json", exclude_unset=True, exclude=_APART)
    extensions = dict(model.extensions)
    source = extensions.pop(SOURCE, None)
    if extensions:
        out["extensions"] = extensions
    if not isinstance(source, dict):
        return out
    fields = type(model).model_fields
    before = again({**out, **source})
    for key, value in source.items():
        if key not in fields or getattr(before, key) == getattr(model, key):
            out[key] = value
    return out
