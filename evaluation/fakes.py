"""A chat server that says what it is told to, for tests and for trying the commands without an engine.

It speaks the parts of the platform's protocol that an evaluation uses, and OpenAI's chat protocol for the arms
without the platform and for the judge.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

import httpx

Answer = Callable[[str, Sequence[str]], "str | dict[str, Any]"]
"""From the fan's line, and the lines that this fan said before, to the reply or to the whole final event."""


@dataclass
class FakeChat:
    """The state of the server, and what it was asked.

    Args:
        answer: What the character says; for ``/v1`` the line is the last message's text.
        busy: Statuses that come first, before anything is answered (``[429, 503]``).
        remembers: Whether an ended session leaves a memory.
    """

    answer: Answer
    busy: list[int] = field(default_factory=list)
    remembers: bool = True
    calls: list[tuple[str, str, Any]] = field(default_factory=list)
    fans: dict[str, list[str]] = field(default_factory=dict)
    profiles: dict[str, dict[str, str]] = field(default_factory=dict)
    sessions: dict[str, str] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock)

    def handle(self, method: str, path: str, body: Any) -> tuple[int, Any, dict[str, str]]:
        """Status, JSON and headers of the answer to one call."""
        with self._lock:
            self.calls.append((method, path, body))
            if self.busy:
                status = self.busy.pop(0)
                return status, {"error": {"message": "busy"}}, {"Retry-After": "0"}
            return (*self._route(method, path, body), {})

    def _route(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        head, _, rest = path.strip("/").partition("/")
        match method, head:
            case "POST", "session":
                return self._open(body)
            case "POST", "chat":
                return self._chat(body)
            case "DELETE", "session":
                self.ended.append(rest)
                return 204, None
            case "GET", "profile":
                return 200, {"memories": [{"session_id": one} for one in self.ended] if self.remembers else []}
            case "DELETE", "profile":
                known = self.fans.pop(rest, None)
                return (204, None) if known is not None else (404, {"error": {"message": "unknown fan"}})
            case "POST", "v1":
                return 200, self._complete(body)
        return 404, {"error": {"message": f"no {method} {path}"}}

    def _open(self, body: dict[str, Any]) -> tuple[int, Any]:
        session, fan = uuid.uuid4().hex, body["fan_id"]
        self.sessions[session] = fan
        self.fans.setdefault(fan, [])
        if body.get("profile"):
            self.profiles[fan] = body["profile"]
        return 201, {"session_id": session, "fan_id": fan, "persona": body["persona"], "greeting": ""}

    def _chat(self, body: dict[str, Any]) -> tuple[int, Any]:
        said = self.fans[self.sessions[body["session_id"]]]
        reply = self.answer(body["message"], tuple(said))
        said.append(body["message"])
        final = {
            "blocked": False,
            "degraded": [],
            "sources": [],
            "adapter": "haneul/fake",
            "timings": {"ttft_ms": 1.0},
        }
        return 200, final | (reply if isinstance(reply, dict) else {"reply": reply})

    def _complete(self, body: dict[str, Any]) -> Any:
        lines = [message["content"] for message in body["messages"] if message["role"] == "user"]
        reply = self.answer(lines[-1], lines[:-1])
        return {"choices": [{"message": {"role": "assistant", "content": reply}}]}

    def transport(self) -> httpx.MockTransport:
        """For clients in the same process: no socket."""

        def respond(request: httpx.Request) -> httpx.Response:
            body = json.loads(request.content) if request.content else None
            status, content, headers = self.handle(request.method, request.url.path, body)
            return (
                httpx.Response(status, json=content, headers=headers)
                if content is not None
                else httpx.Response(status)
            )

        return httpx.MockTransport(respond)


@contextmanager
def serving(chat: FakeChat) -> Iterator[str]:
    """Serve on a free port of loopback; gives the address."""

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, content, headers = chat.handle(self.command, self.path, body)
            data = b"" if content is None else json.dumps(content).encode()
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(data))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = _do

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet: tests read ``calls`` instead."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
