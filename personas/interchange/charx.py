"""CHARX files: a zip archive of ``card.json`` and the files that belong to the card."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from personas.interchange.bounds import MAX_JSON_BYTES, clean_text, refuse

CARD = "card.json"
MAX_ENTRIES = 1_000
MAX_UNPACKED_BYTES = 64 * 1024 * 1024
MAX_PATH_CHARS = 200

_BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, RuntimeError)
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Charx:
    """What a CHARX file holds."""

    card_json: bytes
    """``card.json``."""

    assets: Mapping[str, bytes]
    """All other files by their path."""


def unpack(data: bytes, source: str) -> Charx:
    """Read an archive that nobody vouches for: its paths, its sizes and its claims about them are checked."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = _files(archive, source)
    except _BROKEN as error:
        refuse(source, f"the archive is damaged ({str(error)[:100] or type(error).__name__})", "Download it again.")
    if CARD not in files:
        refuse(source, f"the archive holds no {CARD}", "Choose a character card.")
    return Charx(files.pop(CARD), files)


def pack(card_json: bytes, assets: Mapping[str, bytes]) -> bytes:
    """An archive that is the same for the same content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in [(CARD, card_json), *sorted(assets.items())]:
            entry = zipfile.ZipInfo(path, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return buffer.getvalue()


def _files(archive: zipfile.ZipFile, source: str) -> dict[str, bytes]:
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        refuse(source, f"the archive holds more than {MAX_ENTRIES} files", "Remove what the card does not need.")
    files: dict[str, bytes] = {}
    left = MAX_UNPACKED_BYTES
    for entry in entries:
        if entry.is_dir():
            continue
        _check(entry, files, source)
        # Sizes in the archive's directory may lie: no more than the limit is ever unpacked.
        limit = min(left, MAX_JSON_BYTES if entry.filename == CARD else left)
        with archive.open(entry) as file:
            files[entry.filename] = file.read(limit + 1)
        if len(files[entry.filename]) > limit:
            refuse(source, f"{entry.filename!r} unpacks to more than {limit} bytes", "Make it smaller.")
        left -= len(files[entry.filename])
    _check_folders(files, source)
    return files


def _check(entry: zipfile.ZipInfo, files: Mapping[str, bytes], source: str) -> None:
    path = entry.filename
    if not is_safe_path(path):
        refuse(source, f"the archive holds the unsafe path {path[:80]!r}", "Pack it again with plain relative paths.")
    if path in files:
        refuse(source, f"the archive holds {path!r} twice", "Pack it again.")
    if entry.flag_bits & 0x1:
        refuse(source, f"{path!r} is encrypted", "Pack it again without a password.")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        refuse(source, f"{path!r} is packed in an unusual way", "Pack it again as a plain zip archive.")
    if stat.S_ISLNK(entry.external_attr >> 16):
        refuse(source, f"{path!r} is a link", "Pack it again with the file itself.")


def is_safe_path(path: str) -> bool:
    """Whether a path stays inside the folder it is unpacked to, on any system."""
    parts = path.split("/")
    return (
        0 < len(path) <= MAX_PATH_CHARS
        and all(part not in ("", ".", "..") and part == part.strip() for part in parts)
        and not any(char in '\\:*?"<>|\n\t' for char in path)
        and clean_text(path) == path
    )


def _check_folders(files: Mapping[str, bytes], source: str) -> None:
    for path in files:
        if any(str(parent) in files for parent in PurePosixPath(path).parents):
            refuse(source, f"{path!r} stands below a file", "Pack it again.")
