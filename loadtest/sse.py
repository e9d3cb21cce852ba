"""Server-sent events from raw bytes. Needs nothing but the standard library, so Locust can use it as well."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

# Not str.splitlines(): that also splits at U+2028 and the like, which may stand inside a message.
_LINE_END = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class SseEvent:
    data: str
    name: str = "message"


class SseParser:
    """Takes bytes in whatever pieces the network delivers and gives whole events."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest = ""
        self._data: list[str] = []
        self._name = "message"

    def feed(self, piece: bytes) -> list[SseEvent]:
        """Events that ``piece`` completes, oldest first."""
        text = self._rest + self._decoder.decode(piece)
        # A carriage return at the very end may be the first half of a CRLF.
        held = "\r" if text.endswith("\r") else ""
        *lines, rest = _LINE_END.split(text.removesuffix("\r"))
        self._rest = rest + held
        return [event for line in lines if (event := self._line(line))]

    def _line(self, line: str) -> SseEvent | None:
        if not line:
            return self._dispatch()
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._name = value or "message"
        return None

    def _dispatch(self) -> SseEvent | None:
        data, name = self._data, self._name
        self._data, self._name = [], "message"
        return SseEvent("\n".join(data), name) if data else None
