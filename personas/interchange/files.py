"""Card files by their kind: ``read_card`` and ``write_card`` are what others call."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import JsonValue

from personas.interchange import charx, png
from personas.interchange.bounds import MAX_JSON_BYTES, parse_object, read_file, refuse
from personas.interchange.mapping import ImportOptions, to_card, to_root
from personas.interchange.spec import SpecVersion
from personas.schema import Card
from personas.seeds import SeedDialogue

Format = Literal["json", "png", "charx"]

_ICON = "assets/icon/images/main.png"


@dataclass(frozen=True, slots=True)
class ImportedCard:
    """A character as a file brought it."""

    card: Card
    seeds: tuple[SeedDialogue, ...] = ()
    """From the example conversations."""

    portrait: bytes | None = None
    """The PNG that the card was in."""

    assets: Mapping[str, bytes] = field(default_factory=dict)
    """Further files by their path."""

    notes: tuple[str, ...] = ()
    """What the person who imports should know."""


def read_card(path: Path, options: ImportOptions | None = None) -> ImportedCard:
    """Read a ``.json``, ``.png`` or ``.charx`` file; its content tells which.

    Raises:
        InvalidRequest: Names the file, the field and what to do.
    """
    return parse_card(read_file(path), str(path), options)


def parse_card(data: bytes, source: str, options: ImportOptions | None = None) -> ImportedCard:
    """Read a card; ``source`` is its name in messages."""
    options = options or ImportOptions()
    portrait: bytes | None = None
    assets: Mapping[str, bytes] = {}
    if data.startswith(png.SIGNATURE):
        text, portrait = png.card_json(data, source), png.picture(data, source)
    elif _is_archive(data):
        unpacked = charx.unpack(data, source)
        text, assets = unpacked.card_json, unpacked.assets
    else:
        text = data
    converted = to_card(parse_object(text, source), source, options)
    return ImportedCard(converted.card, converted.seeds, portrait, assets, converted.notes)


def write_card(imported: ImportedCard, format: Format, version: SpecVersion = "v3") -> bytes:
    """The bytes of a card file.

    Raises:
        InvalidRequest: The card is too large for a file that could be imported again.
    """
    root = to_root(imported.card, imported.seeds, version)
    if format == "png":
        portrait = imported.portrait or png.plain_picture()
        return png.with_card(portrait, _json(root, imported.card.id), version, f"{imported.card.id}/portrait.png")
    if format == "charx":
        return charx.pack(*_with_icon(root, imported))
    return _json(root, imported.card.id)


def _with_icon(root: dict[str, JsonValue], imported: ImportedCard) -> tuple[bytes, dict[str, bytes]]:
    """A portrait goes along as the main icon, unless the card names its files itself."""
    assets = dict(imported.assets)
    data = root["data"]
    if imported.portrait and isinstance(data, dict) and not data.get("assets"):
        assets[_ICON] = imported.portrait
        data["assets"] = [{"type": "icon", "uri": f"embeded://{_ICON}", "name": "main", "ext": "png"}]
    return _json(root, imported.card.id), assets


def _json(root: Mapping[str, JsonValue], persona_id: str) -> bytes:
    text = json.dumps(root, ensure_ascii=False, indent=1, allow_nan=False).encode()
    if len(text) > MAX_JSON_BYTES:
        refuse(persona_id, f"the card has more than {MAX_JSON_BYTES // 2**20} MiB as JSON", "Shorten its lorebook.")
    return text


def _is_archive(data: bytes) -> bool:
    """Zip archives may stand behind other data; the end of one is at the end."""
    return data.startswith(b"PK") or (b"PK\x05\x06" in data[-66_000:] and not data.lstrip().startswith(b"{"))
