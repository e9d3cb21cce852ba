"""A card of the published formats to one of ours and back.

    name                                    display_name; ``{{char}}`` (by ``nickname``, where there is one)
    description, personality, scenario      prompt.persona
    system_prompt, post_history_…           prompt.persona, after the rest, as remarks on style
    first_mes                               greeting
    mes_example                             seed dialogues, beside the card
    character_book                          lorebook
    everything else                         extensions, untouched

The safety block, the answers to blocked messages and the lines for technical trouble are ours, by language: a file
of a stranger cannot replace them. A file that this project wrote may bring them back, if the caller vouches for it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydantic import JsonValue, ValidationError

from personas.base import CardModel
from personas.interchange.bounds import refuse, refuse_field
from personas.interchange.defaults import Language, LanguageDefaults, all_defaults, guess_language
from personas.interchange.examples import to_examples, to_seeds
from personas.interchange.lore import SOURCE, Json, to_character_book, to_lorebook
from personas.interchange.placeholders import resolve, without_template_marks
from personas.interchange.spec import SPECS, CardDataV3, SpecVersion, card_data, check_data, parse_data
from personas.schema import Card
from personas.seeds import SeedDialogue

OWN = "artistmind"
"""Our key in the extensions of exported cards: what the published formats have no field for."""

MAX_PERSONA_CHARS = 4_000
_LONG_PERSONA_CHARS = 1_000
MAX_EXPORTED_EXAMPLES = 50

_HARMLESS = (
    *("language", "tagline", "identity", "traits", "speech"),
    *("likes", "dislikes", "forbidden", "fan_alias", "sampling"),
)
_HEADER = ("spec", "spec_version", "data")
_VOUCHED_FOR = ("alternatives", "degraded")


class ImportOptions(CardModel):
    """What the file itself does not say."""

    persona_id: str | None = None
    """Name of the folder; unset: made of the character's name or the file's."""

    language: Language | None = None
    """Unset: told by the script of the texts."""

    trusted: bool = False
    """Take over the safety block and the answers to blocked messages, too: for files that this project exported."""


@dataclass(frozen=True, slots=True)
class Converted:
    """A card in our form."""

    card: Card
    seeds: tuple[SeedDialogue, ...]
    notes: tuple[str, ...]
    """What the person who imports should know."""


@dataclass(frozen=True, slots=True)
class _Texts:
    """Our texts as they follow from the published fields."""

    display_name: str
    persona: str
    greeting: str

    @staticmethod
    def of(data: CardDataV3, defaults: LanguageDefaults) -> _Texts:
        char = spoken_name(data)
        named = defaults.named(char)
        who = [resolve(text, char) for text in (data.description, data.personality, data.scenario)]
        style = [resolve(text, char) for text in (data.system_prompt, data.post_history_instructions)]
        told = "\n".join(filter(None, who)) or named.persona
        if remarks := "\n".join(filter(None, style)):
            told += f"\n{defaults.style}{remarks}"
        name = without_template_marks(data.name).strip()
        return _Texts(name, _cut(told), resolve(data.first_mes, char) or named.greeting)


def spoken_name(data: CardDataV3) -> str:
    """What ``{{char}}`` stands for."""
    return without_template_marks(data.nickname or data.name).strip()


def to_card(root: Json, source: str, options: ImportOptions) -> Converted:
    """Make a card of a parsed file."""
    data = parse_data(root, source)
    if not spoken_name(data) or not without_template_marks(data.name).strip():
        refuse(source, "field 'data.name' holds no name", "Give the character a name.")
    own = _own_fields(data, options.trusted)
    language = options.language or _own_language(own) or guess_language(data.name + data.description + data.first_mes)
    defaults = all_defaults()[language]
    texts = _Texts.of(data, defaults)
    persona_id = options.persona_id or _made_up_id(data, source)
    book = data.character_book
    fields: dict[str, object] = {
        "alternatives": defaults.named(texts.display_name).alternatives,
        "degraded": defaults.degraded,
        "fan_alias": defaults.fan_alias,
        "speech": {"level": defaults.speech},
        **own,
        "id": persona_id,
        "display_name": texts.display_name,
        "language": own.get("language", language) if options.language is None else language,
        "greeting": texts.greeting,
        "prompt": {"persona": texts.persona, "safety": _safety(data, defaults.named(texts.display_name), options)},
        "lorebook": to_lorebook(book, spoken_name(data), source) if book is not None else None,
        "extensions": {**_foreign_extensions(data), SOURCE: _source(root, source, language)},
    }
    card = _validated({key: value for key, value in fields.items() if value is not None}, source)
    return Converted(card, to_seeds(data.mes_example, spoken_name(data), persona_id), _notes(root, data, texts))


def to_root(card: Card, seeds: tuple[SeedDialogue, ...], version: SpecVersion) -> Json:
    """A card as the published format ``version`` has it, with all that an import brought along."""
    kept = card.extensions.get(SOURCE)
    source = kept if isinstance(kept, dict) else {}
    root = dict(_object(source.get("root")))
    data = _texts_out(card, _object(source.get("data")), _object(source.get("extra")))
    char = spoken_name(check_data(data, card.id))
    if card.lorebook is not None:
        data["character_book"] = to_character_book(card.lorebook, char, version)
    if seeds and not data.get("mes_example"):
        data["mes_example"] = to_examples(seeds[:MAX_EXPORTED_EXAMPLES])
    foreign = {key: value for key, value in card.extensions.items() if key != SOURCE}
    data["extensions"] = {**foreign, OWN: _own_out(card)}
    spec, spec_version = SPECS[version]
    said = source.get("spec_version") if source.get("spec") == spec else None
    # Some programs repeat the fields of V1 beside ``data``; stale ones would contradict it.
    mirrored = {key: data[key] for key in root if key in data and key in CardDataV3.model_fields}
    return {**root, **mirrored, "spec": spec, "spec_version": said or spec_version, "data": _complete(data, version)}


def _texts_out(card: Card, data: Json, extra: Json) -> Json:
    """The published fields; those whose meaning was not edited here are as they came."""
    out: Json = dict(data)
    before = None
    if data:
        before = _Texts.of(check_data(data, card.id), all_defaults()[_own_language(extra) or "en"])
    if before is None or card.display_name != before.display_name:
        out["name"] = card.display_name
        out.pop("nickname", None)
    if before is None or card.greeting != before.greeting:
        out["first_mes"] = card.greeting
    if before is None or card.prompt.persona.strip() != before.persona:
        empty = dict.fromkeys(("personality", "scenario", "system_prompt", "post_history_instructions"), "")
        out |= {"description": card.prompt.persona.strip(), **empty}
    return out


def _complete(data: Json, version: SpecVersion) -> Json:
    """With the fields that the format demands."""
    texts = ("description", "personality", "scenario", "first_mes", "mes_example", "creator_notes", "system_prompt")
    empty: Json = dict.fromkeys((*texts, "post_history_instructions", "creator", "character_version"), "")
    lists = ("alternate_greetings", "tags", *(("group_only_greetings",) if version == "v3" else ()))
    return {**empty, **{key: [] for key in lists}, **data}


def _source(root: Json, source: str, language: Language) -> Json:
    """What the file said, but for what our own fields repeat word for word."""
    data = card_data(root, source)
    return {
        "spec": root.get("spec"),
        "spec_version": root.get("spec_version"),
        "root": {key: value for key, value in root.items() if "data" in root and key not in _HEADER},
        "data": {key: value for key, value in data.items() if key not in ("extensions", "character_book")},
        "extra": {"language": language},
    }


def _own_out(card: Card) -> Json:
    fields = (*_HARMLESS, *_VOUCHED_FOR)
    own = card.model_dump(mode="json", include=set(fields))
    return {"id": card.id, "safety": card.prompt.safety, **own}


def _own_fields(data: CardDataV3, trusted: bool) -> dict[str, JsonValue]:
    own = _object(data.extensions.get(OWN))
    allowed = (*_HARMLESS, *_VOUCHED_FOR) if trusted else _HARMLESS
    return {key: _without_marks(own[key]) for key in allowed if own.get(key) is not None}


def _own_language(own: dict[str, JsonValue]) -> Language | None:
    base = str(own.get("language", ""))[:2]
    return next((language for language in all_defaults() if language == base), None)


def _safety(data: CardDataV3, defaults: LanguageDefaults, options: ImportOptions) -> str:
    brought = _object(data.extensions.get(OWN)).get("safety")
    return brought if options.trusted and isinstance(brought, str) and brought.strip() else defaults.safety


def _foreign_extensions(data: CardDataV3) -> Json:
    return {key: value for key, value in data.extensions.items() if key not in (OWN, SOURCE)}


def _without_marks(value: JsonValue) -> JsonValue:
    if isinstance(value, str):
        return without_template_marks(value)
    if isinstance(value, list):
        return [_without_marks(item) for item in value]
    return {key: _without_marks(item) for key, item in value.items()} if isinstance(value, dict) else value


def _object(value: JsonValue) -> Json:
    return value if isinstance(value, dict) else {}


def _made_up_id(data: CardDataV3, source: str) -> str:
    own = _object(data.extensions.get(OWN)).get("id")
    for candidate in (own, data.name, re.sub(r"\.\w+$", "", source.replace("\\", "/").rsplit("/", 1)[-1])):
        slug = re.sub(r"[^a-z0-9]+", "-", str(candidate or "").lower()).strip("-").lstrip("0123456789-")[:64]
        if slug:
            return slug
    refuse(source, "neither the character's name nor the file's makes an id of Latin letters", "Give one with --id.")


def _validated(fields: dict[str, object], source: str) -> Card:
    try:
        return Card.model_validate(fields)
    except ValidationError as error:
        refuse_field(
            source, "", error, "It is a field of the card made of the file: correct the file, or choose another id."
        )


def _cut(text: str) -> str:
    """Bounded, at the end of a line where that loses little."""
    if len(text) <= MAX_PERSONA_CHARS:
        return text
    head = text[:MAX_PERSONA_CHARS]
    whole = head.rfind("\n")
    return (head[:whole] if whole > MAX_PERSONA_CHARS // 2 else head).strip()


def _notes(root: Json, data: CardDataV3, texts: _Texts) -> tuple[str, ...]:
    notes = []
    version = str(root.get("spec_version") or "")[:20]
    if re.fullmatch(r"\d+(\.\d+)?", version) and float(version) > 3:
        notes.append(f"the card is of version {version}: newer fields are kept but not used")
    if len(texts.persona) > _LONG_PERSONA_CHARS:
        notes.append(f"prompt.persona has {len(texts.persona)} characters: shorten it, every turn pays for it")
    if data.system_prompt or data.post_history_instructions:
        notes.append("the card's instructions stand at the end of prompt.persona; the safety block stays ours")
    if data.character_book and any(map(_uses_regex, _entries(data.character_book))):
        notes.append("the lorebook uses regular expressions: they run against a short time limit")
    return tuple(notes)


def _entries(book: Json) -> list[JsonValue]:
    entries = book.get("entries")
    return entries if isinstance(entries, list) else []


def _uses_regex(entry: JsonValue) -> bool:
    return isinstance(entry, dict) and entry.get("use_regex") is True
