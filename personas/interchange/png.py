"""Text chunks of PNG files.

Chunks are walked by hand: Pillow reads the chunks behind the picture only after it has decoded the picture, which
a file of a stranger should not make us do. Nothing is decompressed here, and every byte that is not a card stays.
"""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from personas.interchange.bounds import refuse

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS = 50_000
MAX_PIXELS = 64_000_000

_KEYWORDS = {"v3": b"ccv3", "v2": b"chara"}
_PLAIN_SIZE = (256, 384)
_PLAIN_COLOUR = b"\x4a\x5a\x78"


@dataclass(frozen=True, slots=True)
class Chunk:
    kind: bytes
    data: bytes

    def written(self) -> bytes:
        return struct.pack(">I", len(self.data)) + self.kind + self.data + struct.pack(">I", self.checksum)

    @property
    def checksum(self) -> int:
        return zlib.crc32(self.data, zlib.crc32(self.kind))

    @property
    def keyword(self) -> bytes:
        """Of a text chunk; empty for others."""
        return self.data.partition(b"\0")[0] if self.kind == b"tEXt" else b""


def card_json(data: bytes, source: str) -> bytes:
    """The JSON of the card inside a picture; V3 where there are both."""
    chunks = _chunks(data, source)
    for keyword in _KEYWORDS.values():
        for chunk in chunks:
            if chunk.keyword.lower() == keyword:
                return _decoded(chunk, source)
    refuse(source, "holds no character card (no text chunk 'ccv3' or 'chara')", "Choose the picture as exported.")


def picture(data: bytes, source: str) -> bytes:
    """The picture without the cards in it."""
    return _written(chunk for chunk in _chunks(data, source) if not _is_card(chunk))


def with_card(portrait: bytes, json_text: bytes, spec: str, source: str) -> bytes:
    """The picture with a card right before its end."""
    chunks = [chunk for chunk in _chunks(portrait, source) if not _is_card(chunk)]
    card = Chunk(b"tEXt", _KEYWORDS[spec] + b"\0" + base64.b64encode(json_text))
    return _written([*chunks[:-1], card, chunks[-1]])


def plain_picture() -> bytes:
    """A picture of one colour, for characters that have none."""
    width, height = _PLAIN_SIZE
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = (b"\0" + _PLAIN_COLOUR * width) * height
    return _written([Chunk(b"IHDR", header), Chunk(b"IDAT", zlib.compress(rows)), Chunk(b"IEND", b"")])


def _is_card(chunk: Chunk) -> bool:
    return chunk.keyword.lower() in _KEYWORDS.values()


def _written(chunks: Iterable[Chunk]) -> bytes:
    return SIGNATURE + b"".join(chunk.written() for chunk in chunks)


def _chunks(data: bytes, source: str) -> list[Chunk]:
    """All chunks, with their lengths, checksums and the picture's size checked; what follows the end is dropped."""
    if not data.startswith(SIGNATURE):
        refuse(source, "is not a PNG picture", "Choose a .png, .json or .charx file.")
    chunks: list[Chunk] = []
    offset = len(SIGNATURE)
    while not chunks or chunks[-1].kind != b"IEND":
        if len(chunks) == MAX_CHUNKS:
            refuse(source, f"has more than {MAX_CHUNKS} chunks", "Save the picture again.")
        chunks.append(_chunk(data, offset, source))
        offset += 12 + len(chunks[-1].data)
    _check_header(chunks[0], source)
    return chunks


def _chunk(data: bytes, offset: int, source: str) -> Chunk:
    head = data[offset : offset + 8]
    length = struct.unpack(">I", head[:4])[0] if len(head) == 8 else len(data)
    end = offset + 8 + length
    if end + 4 > len(data):
        refuse(source, f"the PNG breaks off in the chunk at byte {offset}", "Download the picture again.")
    chunk = Chunk(head[4:], data[offset + 8 : end])
    if struct.unpack(">I", data[end : end + 4])[0] != chunk.checksum:
        refuse(source, f"the checksum of the PNG chunk at byte {offset} is wrong", "Download the picture again.")
    return chunk


def _check_header(header: Chunk, source: str) -> None:
    if header.kind != b"IHDR" or len(header.data) != 13:
        refuse(source, "the PNG has no header", "Save the picture again.")
    width, height = struct.unpack(">II", header.data[:8])
    if not 0 < width * height <= MAX_PIXELS:
        refuse(source, f"the picture has {width} × {height} pixels; {MAX_PIXELS} are allowed", "Make it smaller.")


def _decoded(chunk: Chunk, source: str) -> bytes:
    keyword, _, value = chunk.data.partition(b"\0")
    try:
        return base64.b64decode(b"".join(value.split()), validate=True)
    except binascii.Error:
        refuse(source, f"the text chunk '{keyword.decode('latin-1')}' is not base64", "Export the picture again.")
