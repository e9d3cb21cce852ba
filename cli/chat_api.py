"""The platform's own HTTP protocol as a client speaks it: sessions, and replies as they are written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from core.errors import ArtistMindError, Unavailable


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A conversation that was opened; ``greeting`` is the character's first line."""

    session_id: str
    persona: str
    greeting: str


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the reply."""

    text: str


@dataclass(frozen=True, slots=True)
class Final:
    """The finished turn, as the server told it."""

    reply: str
    blocked: bool
    degraded: tuple[str, ...]
    durable: bool
    adapter: str | None

    @staticmethod
    def of(data: dict[str, Any]) -> Final:
        return Final(
            data.get("reply", ""),
            bool(data.get("blocked")),
            tuple(data.get("degraded") or ()),
            bool(data.get("durable")),
            data.get("adapter"),
        )


class ChatApi:
    """A client of one gateway.

    Raises (from every call):
        Unavailable: nothing answers there.
        ArtistMindError: the server's own error, in its words.
    """

    def __init__(self, url: str, timeout_s: float = 120) -> None:
        import httpx

        self._url = url.rstrip("/")
        self._http = httpx.Client(base_url=self._url, timeout=timeout_s, trust_env=False)

    def __enter__(self) -> ChatApi:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def open_session(self, persona: str, fan_id: str | None = None, name: str | None = None) -> OpenSession:
        """Begin a conversation; a name becomes part of the fan's profile."""
        body: dict[str, Any] = {"persona": persona}
        if fan_id:
            body["fan_id"] = fan_id
        if name:
            body["profile"] = {"name": name}
        data = self._call("POST", "/session", body)
        return OpenSession(data["session_id"], data.get("persona", persona), data.get("greeting") or "")

    def end_session(self, session_id: str) -> None:
        self._call("DELETE", f"/session/{session_id}")

    def say(self, session_id: str, message: str) -> Iterator[Delta | Final]:
        """One turn, streamed: pieces of the reply, then the final event."""
        import httpx
        from httpx_sse import SSEError, connect_sse

        body = {"session_id": session_id, "message": message, "stream": True}
        try:
            with connect_sse(self._http, "POST", "/chat", json=body) as source:
                if not source.response.is_success:
                    source.response.read()
                    raise _server_error(source.response)
                for event in source.iter_sse():
                    yield _event(event.event, event.data)
        except SSEError as error:
            raise Unavailable(f"{self._url} does not answer as a chat gateway: is --url right?") from error
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        import httpx

        try:
            response = self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if not response.is_success:
            raise _server_error(response)
        return response.json() if response.content else {}

    def _unreachable(self, error: Exception) -> Unavailable:
        reason = str(error) or type(error).__name__
        return Unavailable(f"nothing answers at {self._url} ({reason}): start it with `artistmind up`, or name --url")


def _event(name: str, data: str) -> Delta | Final:
    content = json.loads(data)
    if name == "delta":
        return Delta(content["text"])
    if name == "final":
        return Final.of(content)
    raise ArtistMindError(_message(content) or f"the server sent an unknown event {name!r}")


def _server_error(response: Any) -> ArtistMindError:
    try:
        message = _message(response.json())
    except ValueError:
        message = None
    return ArtistMindError(message or f"the server answered {response.status_code}")


def _message(content: Any) -> str | None:
    error = content.get("error") if isinstance(content, dict) else None
    return error.get("message") if isinstance(error, dict) else None
