"""Fans for Locust: each opens a session and chats over SSE, one message after the other.

``locust -f loadtest/locustfile.py --headless -u 8 -r 2 -t 60s --host http://127.0.0.1:8000``

Beside Locust's own rows there are ``ttft`` (to the first text), ``turn`` (to the final event), ``not durable`` and
``busy (409)``. Always a process of its own: gevent patches sockets and threads, which asyncio libraries do not
survive. So nothing here may import ``loadtest.client``.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

from locust import HttpUser, between, events, task
from locust.exception import StopUser

# Locust puts this file's folder on the path, not the project's.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from core.errors import ConfigurationError
from loadtest.loopback import require_loopback
from loadtest.sse import SseEvent, SseParser
from loadtest.workload import FAN_NAMES, load_messages

MESSAGES = load_messages()
_READ_TIMEOUT_S = 120


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    """Our own option beside Locust's."""
    parser.add_argument("--persona", default="haneul", help="Character to chat with")


@events.init.add_listener
def refuse_other_hosts(environment: Any, **_: Any) -> None:
    """End before the first request when the host is not this machine."""
    try:
        require_loopback(environment.host or Fan.host)
    except ConfigurationError as error:
        sys.exit(f"error: {error}")


class Fan(HttpUser):
    """One fan with a name, a session and no hurry."""

    host = "http://127.0.0.1:8000"
    wait_time = between(0.5, 2.0)

    def on_start(self) -> None:
        # The web page can change the host after the start.
        self.client.base_url = require_loopback(self.host)
        self.client.trust_env = False
        persona = self.environment.parsed_options.persona
        body = {"persona": persona, "profile": {"name": random.choice(FAN_NAMES)}}
        response = self.client.post("/session", json=body, allow_redirects=False, timeout=30)
        if response.status_code != 201:
            raise StopUser
        opened = response.json()
        self._session_id, self._fan_id = opened["session_id"], opened["fan_id"]

    def on_stop(self) -> None:
        if hasattr(self, "_fan_id"):
            self.client.delete(f"/profile/{self._fan_id}", name="/profile/{fan_id}", timeout=30)

    @task
    def chat(self) -> None:
        """One turn, read to its final event."""
        body = {"session_id": self._session_id, "message": random.choice(MESSAGES), "stream": True}
        started = time.perf_counter()
        call = {"stream": True, "catch_response": True, "allow_redirects": False, "timeout": _READ_TIMEOUT_S}
        with self.client.post("/chat", json=body, **call) as response:
            if response.status_code == 409:
                # Another turn of this session still runs: not an error of the server, and no reason to insist.
                response.success()
                self._record("busy (409)", started)
            elif response.status_code == 200:
                self._read(response, started)
            else:
                response.failure(f"HTTP {response.status_code}")

    def _read(self, response: Any, started: float) -> None:
        parser, spoken = SseParser(), False
        for piece in response.iter_content(chunk_size=None):
            for event in parser.feed(piece):
                if event.name == "delta" and not spoken:
                    spoken = True
                    self._record("ttft", started)
                elif event.name in ("final", "error"):
                    self._finish(response, event, started)
                    return
        response.failure("the stream ended before its final event")

    def _finish(self, response: Any, event: SseEvent, started: float) -> None:
        data = json.loads(event.data)
        if event.name == "error":
            response.failure(data["error"]["message"])
            return
        response.success()
        self._record("turn", started, length=(data.get("usage") or {}).get("completion_tokens", 0))
        if not data.get("durable"):
            self._record("not durable", started, error=RuntimeError("final event with durable: false"))

    def _record(self, name: str, started: float, length: int = 0, error: Exception | None = None) -> None:
        elapsed = (time.perf_counter() - started) * 1000
        self.environment.events.request.fire(
            request_type="SSE",
            name=name,
            response_time=elapsed,
            response_length=length,
            exception=error,
            context={},
        )
