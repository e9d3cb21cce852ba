"""The conversation in a terminal and through a pipe, against a scripted gateway."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

from cli.chat import Caller, Conversation
from cli.chat_api import ChatApi, Delta, Final
from cli.self_check import curl_line, self_check
from core.errors import ArtistMindError, SetupError, Unavailable
from core.settings import PROJECT_ROOT

FINAL = {"reply": "안녕, 서윤아!", "blocked": False, "degraded": [], "durable": True, "adapter": "haneul/v1"}


class Gateway:
    """Keeps what it was asked; answers every message with the same events."""

    def __init__(self, **final: Any) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.events = [("delta", {"text": "안녕, "}), ("delta", {"text": "서윤아!"}), ("final", {**FINAL, **final})]

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else None
        self.asked.append((request.method, request.url.path, body))
        if request.method == "DELETE":
            return httpx.Response(204)
        if request.url.path == "/session":
            return httpx.Response(201, json={"session_id": "s1", "persona": "haneul", "greeting": "왔어?"})
        text = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in self.events)
        return httpx.Response(200, text=text, headers={"content-type": "text/event-stream"})


def connected(answer: Callable[[httpx.Request], httpx.Response]) -> ChatApi:
    api = ChatApi("http://test")
    api._http = httpx.Client(base_url="http://test", transport=httpx.MockTransport(answer))
    return api


def converse(gateway: Gateway, typed: str, monkeypatch: pytest.MonkeyPatch, name: str | None = None) -> str:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    Conversation(connected(gateway), Caller("haneul", None, name), Console(file=out)).run()
    return out.getvalue()


def test_a_piped_line_gets_a_reply_and_the_session_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Gateway()
    assert converse(gateway, "안녕\n", monkeypatch, "서윤") == "안녕, 서윤아!\n"
    assert gateway.asked[0] == ("POST", "/session", {"persona": "haneul", "profile": {"name": "서윤"}})
    assert gateway.asked[1][2] == {"session_id": "s1", "message": "안녕", "stream": True}
    assert gateway.asked[-1] == ("DELETE", "/session/s1", None)


def test_quit_ends_before_the_rest_and_blank_lines_are_no_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Gateway()
    assert converse(gateway, "\n  \n/quit\n더\n", monkeypatch) == ""
    assert [method for method, _, _ in gateway.asked] == ["POST", "DELETE"]


def test_new_ends_one_session_and_opens_another(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Gateway()
    converse(gateway, "/new\n", monkeypatch)
    assert [(method, path) for method, path, _ in gateway.asked] == [
        ("POST", "/session"),
        ("DELETE", "/session/s1"),
        ("POST", "/session"),
        ("DELETE", "/session/s1"),
    ]


def test_remarks_stay_out_of_a_pipes_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway = Gateway(blocked=True, degraded=["qdrant"], durable=False)
    out = converse(gateway, "안녕\n/who\n", monkeypatch)
    assert out == "안녕, 서윤아!\n"
    notes = capsys.readouterr().err
    assert "without qdrant, blocked, not stored yet" in notes
    assert "haneul talks with a stranger" in notes


def test_the_session_is_ended_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Gateway()
    gateway.events = [("error", {"error": {"message": "the engine is busy"}})]
    with pytest.raises(ArtistMindError, match="the engine is busy"):
        converse(gateway, "안녕\n", monkeypatch)
    assert gateway.asked[-1][0] == "DELETE"


def test_a_reply_arrives_in_pieces() -> None:
    events = list(connected(Gateway()).say("s1", "안녕"))
    assert events[:2] == [Delta("안녕, "), Delta("서윤아!")]
    assert events[2] == Final("안녕, 서윤아!", False, (), True, "haneul/v1")


def test_the_servers_own_words_are_shown() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        return httpx.Response(404, json={"error": {"message": "no persona 'x'"}})

    api = connected(refuse)
    with pytest.raises(ArtistMindError, match="no persona 'x'"):
        api.open_session("x")
    with pytest.raises(ArtistMindError, match="no persona 'x'"):
        list(api.say("s1", "안녕"))


@pytest.mark.parametrize("answer", [httpx.Response(200, text="<html>"), httpx.Response(502, text="bad")])
def test_another_server_on_the_port_is_recognised(answer: httpx.Response) -> None:
    with pytest.raises(ArtistMindError):
        list(connected(lambda request: answer).say("s1", "안녕"))


def test_nobody_there_says_how_to_start() -> None:
    with pytest.raises(Unavailable, match="artistmind up"):
        ChatApi("http://127.0.0.1:9").open_session("haneul")


@pytest.mark.parametrize(
    ("final", "problem"),
    [({"reply": " "}, "empty"), ({"blocked": True}, "blocked"), ({"durable": False}, "not stored")],
)
def test_the_self_check_wants_a_stored_reply(
    monkeypatch: pytest.MonkeyPatch, final: dict[str, Any], problem: str
) -> None:
    monkeypatch.setattr("cli.self_check.ChatApi", lambda url, timeout_s: connected(Gateway(**final)))
    with pytest.raises(SetupError, match=problem):
        self_check("http://test", float("inf"))


def test_a_reply_that_breaks_off_fails_the_self_check(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Gateway()
    gateway.events = gateway.events[:1]
    monkeypatch.setattr("cli.self_check.ChatApi", lambda url, timeout_s: connected(gateway))
    with pytest.raises(SetupError, match="broke off"):
        self_check("http://test", float("inf"))


def test_the_printed_curl_line_is_one_shell_command_with_valid_json() -> None:
    import shlex

    words = shlex.split(curl_line("http://127.0.0.1:8000"))
    assert words[:3] == ["curl", "-N", "http://127.0.0.1:8000/v1/chat/completions"]
    assert json.loads(words[-1])["stream"] is True


def test_help_is_quick_because_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, cli.main; heavy = {'ray', 'torch', 'httpx', 'pydantic', 'sqlalchemy', 'psutil'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("command", ["up", "down", "status", "chat", "logs", "env"])
def test_every_command_shows_examples(command: str) -> None:
    from typer.testing import CliRunner

    from cli.main import app

    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Example" in result.output
    assert f"artistmind {command}" in result.output


def test_an_expected_error_is_one_line(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "cli.main", "env"],
        cwd=PROJECT_ROOT,
        env={"ARTISTMIND_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr == "artistmind: Ray is not running: start it with `artistmind up`\n"
