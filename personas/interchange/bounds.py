"""What an imported file may hold at most, and what is taken out of its text."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import NoReturn

from pydantic import JsonValue, ValidationError

from core.errors import InvalidRequest
from personas.base import depth

MAX_FILE_BYTES = 20 * 1024 * 1024
MAX_JSON_BYTES = 2 * 1024 * 1024
MAX_DEPTH = 32
MAX_STRING_CHARS = 32_000
MAX_INTEGER = 2**63

# Control characters, lone surrogates, bidirectional overrides and isolates, and the invisible tag characters.
_UNWANTED = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\U000e0000-\U000e007f]"
)
_LINE_ENDS = re.compile("\r\n?|[\u2028\u2029]")


def refuse(source: str, problem: str, remedy: str) -> NoReturn:
    """Raise the one error of this package.

    Raises:
        InvalidRequest: Always; names the file, what is wrong with it, and what to do.
    """
    raise InvalidRequest(f"{source}: {problem}. {remedy}")


def refuse_field(source: str, prefix: str, error: ValidationError, remedy: str) -> NoReturn:
    """Raise it for the first field that a model does not take."""
    first = error.errors()[0]
    field = ".".join(str(part)[:40] for part in (prefix, *first["loc"]) if part != "")
    refuse(source, f"field '{field}': {first['msg']}", remedy)


def read_file(path: Path) -> bytes:
    """The bytes of a file of permitted size."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        refuse(str(path), f"cannot be read ({error.strerror})", "Check the path.")
    if len(data) > MAX_FILE_BYTES:
        refuse(str(path), f"is larger than {MAX_FILE_BYTES // 2**20} MiB", "Take pictures and sounds out of it.")
    return data


def clean_text(text: str) -> str:
    """Without characters that are invisible, control a terminal or turn text around; lines end in ``\\n``."""
    return _UNWANTED.sub("", _LINE_ENDS.sub("\n", text))


def parse_object(data: bytes, source: str) -> dict[str, JsonValue]:
    """A JSON object within the bounds, its text cleaned."""
    if len(data) > MAX_JSON_BYTES:
        refuse(source, f"its JSON is larger than {MAX_JSON_BYTES // 2**20} MiB", "Shorten the lorebook or the texts.")
    try:
        text = data.decode("utf-8-sig")
        loaded = json.loads(text, parse_constant=_no_number, parse_float=_finite, parse_int=_integer)
    except UnicodeDecodeError:
        refuse(source, "its JSON is not UTF-8", "Save it as UTF-8.")
    except RecursionError:
        refuse(source, f"its JSON is nested deeper than {MAX_DEPTH} levels", "Remove what is nested so deep.")
    except ValueError as error:
        refuse(source, f"is not valid JSON ({error})", "Export the card again.")
    if not isinstance(loaded, dict):
        refuse(source, "its JSON is not an object", "Choose the file of a character card.")
    if depth(loaded) > MAX_DEPTH:
        refuse(source, f"its JSON is nested deeper than {MAX_DEPTH} levels", "Remove what is nested so deep.")
    return _clean_object(loaded, source, "")


def _clean(value: JsonValue, source: str, field: str) -> JsonValue:
    if isinstance(value, str):
        if len(value) > MAX_STRING_CHARS:
            remedy = "Shorten it; pictures and sounds belong into a .charx file."
            refuse(source, f"field '{field}' has more than {MAX_STRING_CHARS} characters", remedy)
        return clean_text(value)
    if isinstance(value, list):
        return [_clean(item, source, f"{field}.{index}") for index, item in enumerate(value)]
    if isinstance(value, dict):
        return _clean_object(value, source, f"{field}.")
    return value


def _clean_object(value: dict[str, JsonValue], source: str, prefix: str) -> dict[str, JsonValue]:
    if any(len(key) > MAX_STRING_CHARS for key in value):
        refuse(source, f"a name inside '{prefix}' has more than {MAX_STRING_CHARS} characters", "Shorten it.")
    return {clean_text(key): _clean(item, source, f"{prefix}{key[:40]}") for key, item in value.items()}


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:20]} is too large")
    return number


def _integer(text: str) -> int:
    number = int(text) if len(text) <= 20 else MAX_INTEGER
    if abs(number) >= MAX_INTEGER:
        raise ValueError(f"the number {text[:20]} is too large")
    return number
