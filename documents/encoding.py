"""Text of unknown encoding, as Korean and Japanese offices still produce it."""

from __future__ import annotations

import codecs
import re

from core.errors import Unprocessable

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LEGACY = {
    "cp949": re.compile(r"[가-힣]"),
    "shift_jis": re.compile(r"[\u3041-\u3096\u30a1-\u30fc\u4e00-\u9fff。、「」]"),
}
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def decode(data: bytes, source: str) -> str:
    """Decode UTF-8 (with or without BOM), UTF-16 with BOM, CP949 or Shift JIS; newlines become ``\\n``."""
    text = _decode(data, source)
    if _CONTROL.search(text):
        raise Unprocessable(f"{source} is not a text file: it holds control characters. Send it in its own format.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _decode(data: bytes, source: str) -> str:
    encodings = [name for bom, name in _BOMS if data.startswith(bom)] or ["utf-8"]
    try:
        return data.decode(encodings[0])
    except UnicodeDecodeError:
        pass
    candidates = {name: text for name in _LEGACY if (text := _try(data, name)) is not None}
    if not candidates:
        raise Unprocessable(f"{source} is in an unknown encoding. Save it as UTF-8.")
    return max(candidates.items(), key=lambda item: _plausibility(*item))[1]


def _try(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def _plausibility(encoding: str, text: str) -> float:
    """Share of the non-ASCII characters that belong to the encoding's own language."""
    foreign = [c for c in text if ord(c) > 127]
    own = len(_LEGACY[encoding].findall(text))
    return own / len(foreign) if foreign else 0.0
