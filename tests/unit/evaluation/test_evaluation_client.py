"""Who is asked, and how: sessions, profiles, patience, and nothing left behind."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from core.errors import ArtistMindError, Unavailable
from evaluation.characters import Character
from evaluation.client import Conversation, GraphClient
from evaluation.endpoint import EndpointClient, EndpointConfig, openai_base
from evaluation.fakes import FakeChat
from evaluation.http import Patience, PatientHttp
from evaluation.items import ANYBODY, PersonaItem, Profile, Script
from evaluation.runner import Journal, play_all, play_one

QUICK = Patience(attempts=3, first_wait_s=0.001)


def echo(line: str, before: tuple[str, ...]) -> str:
    return f"{line}/{len(before)}"


def http(chat: FakeChat, base: str = "http://fake") -> PatientHttp:
    return PatientHttp(base, 5, patience=QUICK, transport=chat.transport())


async def play(chat: FakeChat, script: Script, wait_s: float = 1) -> Conversation:
    conversation = Conversation()
    async with http(chat) as client:
        await GraphClient(client, "haneul", wait_s, poll_s=0.01).play(script, "민호", conversation)
    return conversation


async def test_sessions_are_ended_remembered_and_the_fan_is_erased() -> None:
    chat = FakeChat(echo)
    profile = Profile(name="{{user}}", favorite="세아")
    conversation = await play(chat, Script(sessions=(("나 {{user}}이야", "둘"), ("셋",)), profile=profile))
    assert [[reply.text for reply in session] for session in conversation.replies] == [
        ["나 민호야/0", "둘/1"],
        ["셋/2"],
    ]
    assert list(chat.profiles.values()) == [{"name": "민호", "favorite": "세아"}]
    assert [(method, path.split("/")[1]) for method, path, _ in chat.calls] == [
        ("POST", "session"),
        ("POST", "chat"),
        ("POST", "chat"),
        ("DELETE", "session"),
        ("GET", "profile"),
        ("POST", "session"),
        ("POST", "chat"),
        ("DELETE", "profile"),
    ]
    assert chat.fans == {}
    assert conversation.notes == []


async def test_a_memory_that_does_not_come_is_noted() -> None:
    conversation = await play(FakeChat(echo, remembers=False), Script(sessions=(("하나",), ("둘",))), wait_s=0.05)
    assert conversation.notes == ["no memory of session 1 within 0.05 s"]
    assert len(conversation.replies) == 2


async def test_the_final_event_becomes_the_reply() -> None:
    sources = [{"id": "p1", "title": "앨범", "category": "album", "score": 0.5}]
    final = {"reply": "응", "blocked": True, "category": "abuse", "degraded": ["redis"], "sources": sources}
    [[reply]] = (await play(FakeChat(lambda line, before: final), Script(sessions=(("안녕",),)))).replies
    assert (reply.text, reply.blocked, reply.category, reply.degraded) == ("응", True, "abuse", ("redis",))
    assert (reply.sources[0].title, reply.adapter, reply.ttft_ms) == ("앨범", "haneul/fake", 1.0)


async def test_a_busy_server_is_asked_again() -> None:
    chat = FakeChat(echo, busy=[429, 503])
    assert (await play(chat, Script(sessions=(("안녕",),)))).replies[0][0].text == "안녕/0"


async def test_patience_ends() -> None:
    async with http(FakeChat(echo, busy=[503] * 9)) as client:
        with pytest.raises(Unavailable, match="HTTP 503: busy"):
            await client.call("GET", "/profile/x/memories")


async def test_a_refusal_is_not_asked_again() -> None:
    chat = FakeChat(echo)
    async with http(chat) as client:
        with pytest.raises(ArtistMindError, match="HTTP 404: no GET /nowhere"):
            await client.call("GET", "/nowhere")
    assert len(chat.calls) == 1


async def test_a_turn_that_may_have_happened_is_not_said_twice() -> None:
    calls = 0

    def lost(_: httpx.Request) -> httpx.Response:
        nonlocal calls
        calls += 1
        raise httpx.ReadTimeout("too long")

    for repeat, expected in ((False, 1), (True, 3)):
        calls = 0
        patience = Patience(attempts=3, first_wait_s=0.001, repeat_timeouts=repeat)
        async with PatientHttp("http://fake", 5, patience=patience, transport=httpx.MockTransport(lost)) as client:
            with pytest.raises(Unavailable, match="ReadTimeout"):
                await client.call("POST", "/chat", {})
        assert calls == expected


async def test_a_bare_model_gets_the_four_blocks_and_its_own_history(haneul: Character) -> None:
    chat = FakeChat(lambda line, before: "{{user}}이네!")
    conversation = Conversation()
    async with http(chat, "http://fake/v1") as client:
        target = EndpointClient(client, haneul.card, EndpointConfig(model="m"))
        await target.play(Script(sessions=(("하나", "둘"), ("셋",)), profile=ANYBODY), "민호", conversation)
    assert [reply.text for session in conversation.replies for reply in session] == ["스텔라네!"] * 3
    first, second, third = [body for _, _, body in chat.calls]
    assert [m["role"] for m in second["messages"]] == ["system", "user", "assistant", "user"]
    assert first["messages"][0]["content"].startswith(haneul.card.prompt.persona[:20])
    assert [m["content"] for m in third["messages"][1:]] == ["셋"], "a new session knows nothing of the last"
    assert "민호" not in str(third), "the profile is not shown"
    assert (first["model"], first["max_tokens"]) == ("m", haneul.card.sampling.max_tokens)


@pytest.mark.parametrize("url", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"])
def test_the_address_of_an_endpoint_is_taken_with_or_without_v1(url: str) -> None:
    assert openai_base(url) == "http://h:1/v1"


def items(count: int) -> list[PersonaItem]:
    make = {"kind": "normal", "category": "everyday"}
    return [PersonaItem.model_validate({"id": f"p-{n}", "turns": [f"{n}번"], **make}) for n in range(count)]


async def test_an_item_that_fails_is_told_apart_and_the_rest_goes_on(haneul: Character) -> None:
    chat = FakeChat(lambda line, before: {"reply": "응"})

    async def refuse(*_: object) -> None:
        raise ArtistMindError("no")

    async with http(chat) as client:
        target = GraphClient(client, "haneul")
        [played] = await play_all(items(1), target, haneul, 2)
        assert played.error is None
        target.play = refuse
        assert (await play_one(items(1)[0], "민호", target)).error == "no"


async def test_a_run_goes_on_where_it_was_cut_off(haneul: Character, tmp_path: Path) -> None:
    chat = FakeChat(echo)
    path = tmp_path / "replies.jsonl"
    async with http(chat) as client:
        target = GraphClient(client, "haneul")
        await play_all(items(2), target, haneul, 2, Journal(path))
        with path.open("a", encoding="utf-8") as file:
            file.write('{"item_id": "p-2", "fan_na')
        before = len(chat.calls)
        played = await play_all(items(3), target, haneul, 2, Journal(path))
    assert [one.item_id for one in played] == ["p-0", "p-1", "p-2"]
    assert len(chat.calls) - before == 3, "one item: open, say, erase"
