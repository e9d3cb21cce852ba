"""Containers of card files: what strangers may send, and that nothing but our error comes of it."""

import base64
import io
import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import ConfigurationError, InvalidRequest
from personas.interchange import bounds, charx, folder, png
from personas.interchange.files import ImportedCard, parse_card, read_card, write_card
from personas.interchange.mapping import ImportOptions

DATA = Path(__file__).parent / "data"
OPTIONS = ImportOptions(persona_id="guest")
MINA = json.loads((DATA / "mina_v2.json").read_text(encoding="utf-8"))


def as_json(card: Any) -> bytes:
    return json.dumps(card, ensure_ascii=False).encode()


def as_png(**texts: bytes) -> bytes:
    plain = png.plain_picture()
    chunks = b"".join(png.Chunk(b"tEXt", key.encode() + b"\0" + text).written() for key, text in texts.items())
    return plain[:-12] + chunks + plain[-12:]


def as_zip(files: dict[str, bytes], **change: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            for key, value in change.items():
                setattr(info, key, value)
            archive.writestr(info, content)
    return buffer.getvalue()


def refused(data: bytes, match: str) -> None:
    with pytest.raises(InvalidRequest, match=match) as caught:
        parse_card(data, "card", OPTIONS)
    assert caught.value.message.startswith("card: ")


CARD_TEXT = as_json(MINA)
CHUNK = base64.b64encode(CARD_TEXT)


def test_the_newer_of_two_cards_in_a_picture_counts() -> None:
    newer = as_json({"spec": "chara_card_v3", "spec_version": "3.0", "data": {"name": "New"}})
    assert parse_card(as_png(chara=CHUNK, ccv3=base64.b64encode(newer)), "x", OPTIONS).card.display_name == "New"
    assert parse_card(as_png(Chara=CHUNK), "x", OPTIONS).card.display_name == "Mina"


def test_a_picture_stays_as_it_was_and_its_old_card_goes() -> None:
    guest = parse_card(as_png(Comment=b"mine", chara=CHUNK), "x", OPTIONS)
    assert guest.portrait == as_png(Comment=b"mine")
    written = write_card(guest, "png", "v2")
    assert written.count(b"tEXtchara") == 1
    assert png.picture(written, "x") == guest.portrait


def test_pillow_reads_the_picture_and_the_text_that_we_write() -> None:
    image = pytest.importorskip("PIL.Image").open(io.BytesIO(write_card(ImportedCard(guest_card()), "png", "v3")))
    image.load()
    assert json.loads(base64.b64decode(image.text["ccv3"]))["data"]["name"] == "Mina"


def guest_card() -> Any:
    return parse_card(CARD_TEXT, "x", OPTIONS).card


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "not valid JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[]", "not an object"),
        (b"[" * 100_000, "nested deeper"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "nested deeper"),
        (b'{"spec": "chara_card_v9", "data": {}}', "field 'spec'"),
        (b'{"spec": "chara_card_v2"}', "field 'data'"),
        (b'{"name": NaN}', "NaN"),
        (b'{"name": "a", "x": 1e999}', "too large"),
        (b'{"name": "a", "x": ' + b"9" * 5000 + b"}", "too large"),
        (b" " * (bounds.MAX_JSON_BYTES + 1), "larger than 2 MiB"),
        (png.SIGNATURE, "breaks off"),
        (png.SIGNATURE + struct.pack(">I", 2**31) + b"IHDR", "breaks off"),
        (as_png(), "no character card"),
        (as_png(chara=b"***"), "not base64"),
        (as_png(chara=b""), "not valid JSON"),
        (as_png(chara=CHUNK)[:-20], "breaks off|checksum"),
        (as_png(chara=CHUNK).replace(b"tEXtchara", b"tEXtcharb"), "checksum"),
        (b"PK\x03\x04", "damaged"),
        (as_zip({"other.json": b"{}"}), "no card.json"),
        (as_zip({"card.json": CARD_TEXT, "../evil": b"x"}), "unsafe path"),
        (as_zip({"card.json": CARD_TEXT, "/etc/evil": b"x"}), "unsafe path"),
        (as_zip({"card.json": CARD_TEXT, "C:\\evil": b"x"}), "unsafe path"),
        (as_zip({"card.json": CARD_TEXT, "a\u202egnp.exe": b"x"}), "unsafe path"),
        (as_zip({"card.json": CARD_TEXT, "a": b"x", "a/b": b"x"}), "below a file"),
        (as_zip({"card.json": CARD_TEXT, "link": b"/etc/passwd"}, external_attr=0o120777 << 16), "link"),
        (as_zip({"card.json": CARD_TEXT, **{f"f{index}": b"" for index in range(1000)}}), "more than 1000 files"),
        (as_zip({"card.json": b" " * (bounds.MAX_JSON_BYTES + 1)}), "unpacks to more"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(data: bytes, match: str) -> None:
    refused(data, match)


def test_a_picture_that_would_fill_the_memory_is_refused_unseen() -> None:
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    bomb = [png.Chunk(b"IHDR", header), png.Chunk(b"tEXt", b"chara\0" + CHUNK), png.Chunk(b"IEND", b"")]
    refused(png.SIGNATURE + b"".join(chunk.written() for chunk in bomb), "100000 × 100000 pixels")


def test_an_archive_that_unpacks_to_too_much_is_refused() -> None:
    refused(as_zip({"card.json": CARD_TEXT, **{f"{i}.bin": bytes(16 * 2**20) for i in range(5)}}), "unpacks to more")


def test_an_archive_that_lies_about_sizes_is_not_believed() -> None:
    data = bytearray(as_zip({"card.json": CARD_TEXT, "big.bin": bytes(70 * 2**20)}))
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<I", 10)
    refused(bytes(data), "damaged|unpacks to more")


def test_an_encrypted_archive_is_refused() -> None:
    data = bytearray(as_zip({"card.json": CARD_TEXT}))
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    refused(bytes(data), "encrypted|damaged")


def test_a_file_that_is_too_large_or_missing_is_refused(tmp_path: Path) -> None:
    large = tmp_path / "large.json"
    with large.open("wb") as file:
        file.truncate(bounds.MAX_FILE_BYTES + 1)
    with pytest.raises(InvalidRequest, match=r"large\.json: is larger than 20 MiB"):
        read_card(large)
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read_card(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [("a\x00\x1b[31mb", "a[31mb"), ("\u202egnp\u2066", "gnp"), ("a\r\nb\rc\u2028d", "a\nb\nc\nd"), ("\ud800x", "x")],
)
def test_invisible_and_turning_characters_are_taken_out(text: str, cleaned: str) -> None:
    root = {"spec": "chara_card_v2", "data": {"name": "Mina", "first_mes": text, "extensions": {text: 1}}}
    card = parse_card(json.dumps(root).encode(), "x", OPTIONS).card
    assert card.greeting == cleaned
    assert card.extensions[cleaned] == 1


def test_a_folder_keeps_everything_an_archive_brought(tmp_path: Path) -> None:
    text = (DATA / "kaede_v3.json").read_bytes()
    assets = {"assets/icon/images/main.png": png.plain_picture(), "module.json": b"{}"}
    guest = parse_card(as_zip({"card.json": text, **assets}), "kaede.charx", OPTIONS)
    again = folder.load(folder.save(guest, tmp_path))
    assert (again.card, dict(again.assets)) == (guest.card, assets)
    back = charx.unpack(write_card(again, "charx", "v3"), "x")
    assert dict(back.assets) == assets
    assert json.loads(back.card_json)["data"]["assets"] == json.loads(text)["data"]["assets"]


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    guest = parse_card(CARD_TEXT, "x", OPTIONS)
    folder.save(guest, tmp_path)
    with pytest.raises(ConfigurationError, match="exists already"):
        folder.save(guest, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["guest"]


def test_a_portrait_goes_along_as_the_icon() -> None:
    guest = parse_card(as_png(chara=CHUNK), "x", OPTIONS)
    out = charx.unpack(write_card(guest, "charx", "v3"), "x")
    (asset,) = json.loads(out.card_json)["data"]["assets"]
    assert out.assets[asset["uri"].removeprefix("embeded://")] == guest.portrait


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\u2028\u2029"), max_size=30).map(
    bounds.clean_text
)
NUMBER = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
VALUE = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
EXTRA = st.dictionaries(TEXT.map(lambda key: "x_" + key), VALUE, max_size=3)
ENTRY = st.fixed_dictionaries(
    {"keys": st.lists(TEXT, max_size=3), "content": TEXT, "enabled": st.booleans(), "insertion_order": NUMBER},
    optional={
        "extensions": EXTRA,
        "priority": st.none() | NUMBER,
        "constant": st.none() | st.booleans(),
        "selective": st.booleans(),
        "secondary_keys": st.none() | st.lists(TEXT, max_size=2),
        "use_regex": st.booleans(),
        "id": st.none() | NUMBER | TEXT,
        "position": st.none() | TEXT,
    },
)
BOOK = st.fixed_dictionaries(
    {"entries": st.lists(st.builds(lambda entry, extra: {**extra, **entry}, ENTRY, EXTRA), max_size=3)},
    optional={
        "name": st.none() | TEXT,
        "scan_depth": st.integers(0, 100) | st.floats(0, 100),
        "extensions": EXTRA,
        "x_own": VALUE,
    },
)
CARD_DATA = st.fixed_dictionaries(
    {"name": TEXT.map(lambda name: "N" + name)},
    optional={
        **{key: st.none() | TEXT for key in ("description", "personality", "scenario", "first_mes", "mes_example")},
        **{
            key: st.none() | TEXT
            for key in ("system_prompt", "post_history_instructions", "creator_notes", "creator")
        },
        "nickname": TEXT,
        "tags": st.lists(TEXT, max_size=3),
        "alternate_greetings": st.lists(TEXT, max_size=2),
        "character_book": BOOK,
        "extensions": EXTRA,
    },
)


def lost(before: Any, after: Any, place: str = "") -> list[str]:
    """Where ``after`` does not hold what ``before`` holds."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [hit for key in before for hit in lost(before[key], after.get(key, "<missing>"), f"{place}.{key}")]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [hit for i, item in enumerate(before) for hit in lost(item, after[i], f"{place}.{i}")]
    return [] if repr(before) == repr(after) else [f"{place}: {before!r} became {after!r}"]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    CARD_DATA,
    EXTRA,
    EXTRA,
    st.sampled_from(["v2", "v3"]),
    st.sampled_from(["json", "png", "charx"]),
    st.sampled_from(["v2", "v3"]),
)
def test_every_card_survives_every_container(
    data: dict[str, Any], extra: dict[str, Any], root_extra: dict[str, Any], before: Any, container: Any, after: Any
) -> None:
    root = {**root_extra, "spec": f"chara_card_{before}", "spec_version": "2.0", "data": {**extra, **data}}
    first = parse_card(as_json(root), "x", OPTIONS)
    second = parse_card(write_card(first, container, after), "x", OPTIONS)
    out = json.loads(write_card(second, "json", before))
    assert lost(root["data"], out["data"]) == []
    assert lost(root_extra, out) == []
    if after == "v2":  # V3 demands fields that were not there
        assert second.card.model_dump(exclude={"extensions"}) == first.card.model_dump(exclude={"extensions"})


def accepted_or_refused(data: bytes) -> None:
    try:
        parse_card(data, "x", OPTIONS)
    except InvalidRequest as error:
        assert str(error).startswith("x: ")  # noqa: PT017 - both outcomes are right


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([b"", png.SIGNATURE, b"PK\x03\x04", b'{"name":"a",', b'{"spec":']))
def test_random_bytes_raise_nothing_but_our_error(data: bytes, start: bytes) -> None:
    accepted_or_refused(start + data)


@settings(max_examples=100, deadline=None)
@given(
    st.data(),
    st.sampled_from([CARD_TEXT, as_png(chara=CHUNK), as_zip({"card.json": CARD_TEXT, "a/b.png": b"x" * 50})]),
)
def test_damaged_files_raise_nothing_but_our_error(data: st.DataObject, whole: bytes) -> None:
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    accepted_or_refused(
        bytes(damaged[: data.draw(st.integers(0, len(whole)))] if data.draw(st.booleans()) else damaged)
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)
FIELDS = [
    "name",
    "description",
    "tags",
    "character_book",
    "extensions",
    "assets",
    "creation_date",
    "source",
    "nickname",
]


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), JSON | st.dictionaries(st.just("entries"), JSON)))
def test_json_of_any_shape_raises_nothing_but_our_error(data: dict[str, Any]) -> None:
    accepted_or_refused(json.dumps({"spec": "chara_card_v3", "data": data}).encode())


def test_the_checksums_are_those_of_zlib() -> None:
    assert png.Chunk(b"IEND", b"").written()[-4:] == struct.pack(">I", zlib.crc32(b"IEND"))
