"""The last stage of ``up``: a real conversation through the front door."""

from __future__ import annotations

import json
import time

from cli.chat_api import ChatApi, Final
from core.errors import SetupError

PERSONA = "haneul"
DEMO_FAN = "demo"
DEMO_NAME = "서윤"
_GREETING = "안녕! 나 왔어"


def self_check(url: str, deadline: float) -> str:
    """Open a session, say hello, and see that the reply was streamed and is stored for good.

    Raises:
        SetupError: the reply is empty, blocked, or not stored.
    """
    with ChatApi(url, timeout_s=max(5.0, deadline - time.monotonic())) as api:
        session = api.open_session(PERSONA, DEMO_FAN, DEMO_NAME)
        final = _final(api, session.session_id)
        api.end_session(session.session_id)
    if not final.reply.strip():
        raise SetupError("the self-check got an empty reply: see `artistmind logs generator`")
    if final.blocked:
        raise SetupError("the self-check's greeting was blocked: see `artistmind logs guard`")
    if not final.durable:
        raise SetupError("the self-check's turn was not stored: see `artistmind logs servers`")
    return final.reply


def _final(api: ChatApi, session_id: str) -> Final:
    for event in api.say(session_id, _GREETING):
        if isinstance(event, Final):
            return event
    raise SetupError("the self-check's reply broke off: see `artistmind logs gateway`")


def curl_line(url: str) -> str:
    """A call to try by hand: it streams, and greets by the name in the demo fan's profile."""
    body = {
        "model": PERSONA,
        "user": DEMO_FAN,
        "stream": True,
        "messages": [{"role": "user", "content": "안녕! 내 이름 기억해?"}],
    }
    return (
        f"curl -N {url}/v1/chat/completions -H 'Content-Type: application/json' "
        f"-d '{json.dumps(body, ensure_ascii=False)}'"
    )
