"""The two published formats, as far as we read them.

V2: github.com/malfoyslastname/character-card-spec-v2, V3: github.com/kwaroran/character-card-spec-v3. Fields that
neither knows are allowed and ignored here; :mod:`personas.interchange.mapping` carries them along.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from personas.interchange.bounds import refuse, refuse_field

SpecVersion = Literal["v2", "v3"]

SPECS: dict[SpecVersion, tuple[str, str]] = {"v2": ("chara_card_v2", "2.0"), "v3": ("chara_card_v3", "3.0")}
"""What stands in ``spec`` and ``spec_version``."""


class SpecModel(BaseModel):
    """Lenient where files in the wild are: unknown fields, ``null`` for a missing value, numbers for text."""

    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        return {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else value


class CardDataV2(SpecModel):
    """``data`` of a V2 card."""

    name: str = Field(min_length=1, max_length=200)
    """What the character is called."""

    description: str = ""
    """Who the character is."""

    personality: str = ""
    """A summary of that."""

    scenario: str = ""
    """Where the conversation takes place."""

    first_mes: str = ""
    """The greeting."""

    mes_example: str = ""
    """Conversations, each opened by ``<START>``."""

    creator_notes: str = ""
    """For people; never in a prompt."""

    system_prompt: str = ""
    """What other programs take in place of their system prompt."""

    post_history_instructions: str = ""
    """What other programs put after the conversation."""

    alternate_greetings: tuple[str, ...] = ()
    """Other greetings."""

    character_book: dict[str, JsonValue] | None = None
    """The lorebook; read as :class:`personas.lorebook.Lorebook`."""

    tags: tuple[str, ...] = ()
    """For sorting; never in a prompt."""

    creator: str = ""
    """For people; never in a prompt."""

    character_version: str = ""
    """For people; never in a prompt."""

    extensions: dict[str, JsonValue] = Field(default_factory=dict)
    """Data of other programs."""


class Asset(SpecModel):
    """A picture or another file that belongs to a V3 card."""

    type: str
    """``icon``, ``background``, ``emotion``, ``user_icon``, or a program's own."""

    uri: str
    """``embeded://path`` inside the CHARX file, a URL, or ``ccdefault:``."""

    name: str
    """``main`` for the icon that is shown."""

    ext: str
    """Extension of the file's name, without a dot."""


class CardDataV3(CardDataV2):
    """``data`` of a V3 card."""

    nickname: str = ""
    """Takes the place of ``{{char}}`` where it is set."""

    assets: tuple[Asset, ...] = ()
    """Files that belong to the card."""

    creator_notes_multilingual: dict[str, str] = Field(default_factory=dict)
    """Notes by language."""

    source: tuple[str, ...] = ()
    """Where the card comes from."""

    group_only_greetings: tuple[str, ...] = ()
    """Greetings for group chats."""

    creation_date: int | float | None = None
    """Unix time."""

    modification_date: int | float | None = None
    """Unix time."""


def parse_data(root: dict[str, JsonValue], source: str) -> CardDataV3:
    """The card's ``data``, checked; V1 files have it at the root.

    V3 is a superset of V2, so that one model reads both.
    """
    return check_data(card_data(root, source), source)


def check_data(data: dict[str, JsonValue], source: str) -> CardDataV3:
    """``data`` as a model."""
    try:
        return CardDataV3.model_validate(data)
    except ValidationError as error:
        refuse_field(source, "data", error, "Correct it in the program that wrote the card.")


def card_data(root: dict[str, JsonValue], source: str) -> dict[str, JsonValue]:
    """Where the fields of the card stand."""
    spec, data = root.get("spec"), root.get("data")
    if spec is None and data is None and "name" in root:
        return root
    if spec not in {name for name, _ in SPECS.values()}:
        problem = f"field 'spec' is {str(spec)[:40]!r}, not 'chara_card_v2' or 'chara_card_v3'"
        refuse(source, problem, "Export the card again.")
    if not isinstance(data, dict):
        refuse(source, "field 'data' is missing or not an object", "Export the card again.")
    return data
