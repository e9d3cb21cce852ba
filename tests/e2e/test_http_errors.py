"""Every refusal over real HTTP: the proper status, OpenAI's error shape, and nothing of our inside."""

from __future__ import annotations

from typing import Any

import pytest

SESSION = {"persona": "haneul"}
NOBODYS = "00000000-0000-4000-8000-000000000000"
CHAT = {"session_id": "any", "message": "안녕"}
COMPLETION = {"model": "haneul", "messages": [{"role": "user", "content": "안녕"}]}


def check_error(answer: Any, status: int, param: str | None = None) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "code", "param"}
    assert error["message"]
    assert error["type"]
    assert error["code"]
    assert "Traceback" not in answer.text
    if param is not None:
        assert error["param"] == param


@pytest.mark.parametrize("path", ["/session", "/chat", "/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("body", [b'{"persona": ', b"", b"\xff\xfe"])
def test_what_is_no_json_is_400_or_422(graph, path, body):
    answer = graph.http.post(path, content=body, headers={"content-type": "application/json"})
    # No body at all is a missing field and not broken JSON.
    check_error(answer, 422 if not body and not path.startswith("/v1") else 400)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/session", {"persona": 7}, "persona"),
        ("/session", {}, "persona"),
        ("/session", SESSION | {"favourite": "x"}, "favourite"),
        ("/session", SESSION | {"profile": {"birthday": "17-05"}}, "profile.birthday"),
        ("/session", SESSION | {"fan_id": "a b"}, "fan_id"),
        ("/chat", CHAT | {"message": ["안녕"]}, "message"),
        ("/chat", CHAT | {"message": "  \n "}, "message"),
        ("/chat", CHAT | {"message": ""}, "message"),
        ("/chat", CHAT | {"message": "안녕\x07"}, "message"),
        ("/chat", CHAT | {"message": "안\x00녕"}, "message"),
        ("/chat", CHAT | {"stream": "perhaps"}, "stream"),
    ],
)
def test_wrong_content_is_422_and_names_the_field(graph, path, body, param):
    check_error(graph.http.post(path, json=body), 422, param)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"messages": [{"role": "assistant", "content": "응"}]}, "messages"),
    ],
)
def test_openai_calls_are_refused_with_400_as_openai_does(graph, change, param):
    check_error(graph.http.post("/v1/chat/completions", json=COMPLETION | change), 400, param)


@pytest.mark.parametrize(
    ("method", "path", "body", "param"),
    [
        ("POST", "/session", {"persona": "nobody"}, None),
        ("POST", "/chat", CHAT | {"session_id": NOBODYS}, "session_id"),
        ("DELETE", f"/session/{NOBODYS}", None, "session_id"),
        ("GET", "/profile/nobody-yet", None, "fan_id"),
        ("DELETE", "/profile/nobody-yet", None, "fan_id"),
        ("DELETE", "/profile/nobody-yet/memories/none", None, "memory_id"),
        ("DELETE", "/documents/none", None, "document_id"),
        ("DELETE", "/admin/keys/none", None, "key_id"),
        ("POST", "/admin/adapters/haneul/v999/promote", None, "version"),
        ("POST", "/v1/chat/completions", COMPLETION | {"model": "gpt-4o"}, "model"),
        ("GET", "/v1/models/gpt-4o", None, "model"),
        ("GET", "/no/such/path", None, None),
    ],
)
def test_what_is_not_there_is_404(graph, method, path, body, param):
    check_error(graph.http.request(method, path, json=body), 404, param)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/chat"), ("PUT", "/session"), ("POST", "/health"), ("PATCH", "/v1/models"), ("DELETE", "/documents")],
)
def test_a_method_that_a_path_does_not_know_is_405(graph, method, path):
    check_error(graph.http.request(method, path), 405)


def test_a_message_over_the_limit_is_413(graph):
    session = graph.open_session()["session_id"]
    check_error(graph.ask(session, "가" * 2001), 413, "message")
    long = COMPLETION | {"messages": [{"role": "user", "content": "가" * 2001}]}
    check_error(graph.http.post("/v1/chat/completions", json=long), 413)


def test_a_file_nobody_can_read_is_refused(graph):
    files = {"file": ("song.mp3", b"ID3\x04", "audio/mpeg")}
    check_error(graph.http.post("/documents", files=files, data={"persona": "kelron"}), 415)
    empty = {"file": ("empty.md", b"", "text/markdown")}
    check_error(graph.http.post("/documents", files=empty, data={"persona": "kelron"}), 422)
    missing = graph.http.post("/documents", data={"persona": "kelron"})
    check_error(missing, 422, "file")


def test_a_session_that_talks_to_another_character_is_400(graph):
    session = graph.open_session("kelron")["session_id"]
    answer = graph.http.post("/v1/chat/completions", json=COMPLETION, headers={"X-Session-Id": session})
    check_error(answer, 400, "model")


def test_keys_are_shown_once_and_can_be_revoked(graph):
    made = graph.http.post("/admin/keys", json={"label": "e2e", "scopes": ["chat"]})
    assert made.status_code == 201
    key = made.json()["key"]
    listed = graph.http.get("/admin/keys")
    assert key not in listed.text
    [key_id] = [info["id"] for info in listed.json()["keys"] if info["label"] == "e2e" and not info["revoked_at"]]
    assert graph.http.delete(f"/admin/keys/{key_id}").status_code == 204
    check_error(graph.http.post("/admin/keys", json={"label": "e2e", "scopes": ["root"]}), 422, "scopes.0")
