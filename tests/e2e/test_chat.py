"""The chat itself over HTTP: greeting, turns, streams, filters, sessions apart, and clients that leave."""

from __future__ import annotations

import json
import re
import threading
import time

import pytest

from core.settings import get_settings
from personas.loader import PersonaLibrary
from personas.macros import fill

HANGUL = re.compile("[가-힣]")
INSULT = "씨발 꺼져"


def card(persona: str):
    settings = get_settings()
    return PersonaLibrary(settings.resolved(settings.cards_dir)).get(persona).card


@pytest.mark.parametrize(("name", "called"), [("서윤", "서윤아"), ("민호", "민호야")])
def test_a_session_greets_the_fan_by_name(graph, fan, name, called):
    session = graph.open_session("haneul", fan, name=name)
    assert session["greeting"] == fill(card("haneul").greeting, name)
    assert called in session["greeting"]
    assert session["durable"]
    assert graph.open_session("haneul", fan)["greeting"] == session["greeting"], "the second time, too"


def test_a_turn_is_answered_in_korean_and_stored(graph, fan):
    session = graph.open_session("haneul", fan, name="서윤")["session_id"]
    turn = graph.chat(session, "안녕! 오늘 비가 와서 좋다")
    assert HANGUL.search(turn["reply"])
    assert "{{user}}" not in turn["reply"]
    assert (turn["blocked"], turn["category"], turn["degraded"]) == (False, None, [])
    assert turn["durable"]
    assert turn["adapter"].startswith("haneul/")
    assert turn["usage"]["completion_tokens"] > 0
    assert 0 < turn["timings"]["ttft_ms"] <= turn["timings"]["total_ms"]
    asked, answered = graph.stored(session)
    assert (asked.role, asked.content, asked.turn_id) == ("user", "안녕! 오늘 비가 와서 좋다", turn["turn_id"])
    assert fill(answered.content, "서윤") == turn["reply"]
    assert answered.adapter == turn["adapter"]


def test_a_stream_adds_up_to_the_final_reply_and_ends_after_the_commit(graph):
    session = graph.open_session()["session_id"]
    turn = graph.stream(session, "요즘 무슨 노래 들어?")
    assert turn.error is None
    assert "".join(turn.deltas) == turn.final["reply"]
    assert turn.final["durable"]
    assert {row.turn_id for row in graph.stored(session)} == {turn.final["turn_id"]}


def test_the_fans_name_never_enters_the_stores(graph, fan):
    session = graph.open_session("haneul", fan, name="서윤")["session_id"]
    graph.chat(session, "내 이름은 서윤이야, 불러 줘!")
    assert all("서윤" not in row.content for row in graph.stored(session))
    assert all("서윤" not in message.content for message in graph.window(session))


def test_blocked_input_gets_an_answer_in_character_and_is_never_remembered(graph):
    session = graph.open_session()["session_id"]
    turn = graph.stream(session, INSULT).final
    assert (turn["blocked"], turn["category"]) == (True, "abuse")
    lines = [fill(line, card("haneul").fan_alias) for line in card("haneul").alternatives["abuse"]]
    assert turn["reply"] in lines
    assert turn["usage"]["completion_tokens"] == 0, "the model was not asked"
    assert [row.blocked for row in graph.stored(session)] == [True, True], "it is on record"
    assert graph.chat(session, "미안, 오늘 좀 힘들었어")["blocked"] is False
    remembered = [message.content for message in graph.window(session)]
    assert len(remembered) == 2
    assert INSULT not in " ".join(remembered)


def test_eight_sessions_at_once_do_not_mix(graph, at_once):
    words = ["수달", "등대", "귤잼", "연필", "소나기", "기차", "모과", "은하"]

    def talk(word: str) -> str:
        session = graph.open_session()["session_id"]
        for message in (f"내 비밀 낱말은 {word}!", f"{word} 기억해 줘!"):
            assert graph.stream(session, message).final["durable"]
        return session

    for word, session in zip(words, at_once(talk, *words), strict=True):
        asked = [row.content for row in graph.stored(session) if row.role == "user"]
        assert asked == [f"내 비밀 낱말은 {word}!", f"{word} 기억해 줘!"]
        window = " ".join(message.content for message in graph.window(session) if message.role == "user")
        assert [other for other in words if other in window] == [word]


def test_two_characters_answer_at_once_with_their_own_adapters(graph, at_once):
    def talk(persona: str):
        session = graph.open_session(persona)["session_id"]
        return graph.chat(session, "안녕, 자기소개 해 줘")

    turns = at_once(talk, "haneul", "kelron", "haneul", "kelron")
    assert [turn["adapter"].partition("/")[0] for turn in turns] == ["haneul", "kelron", "haneul", "kelron"]
    assert {turns[0]["reply"], turns[2]["reply"]}.isdisjoint({turns[1]["reply"], turns[3]["reply"]})


def test_a_second_turn_in_flight_is_refused(graph, at_once):
    session = graph.open_session()["session_id"]
    graph.chat(session, "안녕")
    gate = threading.Barrier(3)

    def ask(message: str) -> int:
        gate.wait(10)
        return graph.ask(session, message).status_code

    assert sorted(at_once(ask, "하나", "둘", "셋")) == [200, 409, 409]
    assert len(graph.stored(session)) == 4
    assert graph.ask(session, "다시").status_code == 200


def test_an_ended_session_takes_no_more(graph):
    session = graph.open_session()["session_id"]
    graph.chat(session, "안녕")
    assert graph.http.delete(f"/session/{session}").status_code == 204
    late = graph.ask(session, "하나만 더")
    assert (late.status_code, late.json()["error"]["code"]) == (409, "conflict")
    assert len(graph.stored(session)) == 2
    assert graph.http.delete(f"/session/{session}").status_code == 404


LONG = {
    "model": "kelron",
    "messages": [{"role": "user", "content": "한빛정밀의 모든 제도를 하나씩 길게 설명해 주십시오."}],
    # So hot that the end of a turn is one token among thousands: the only way to a long reply of a small model.
    "temperature": 2.0,
    "top_p": 1.0,
    "max_tokens": 900,
    "stream": True,
}


def engine_seconds(graph) -> float:
    """CPU time that the engine has used so far."""
    [replica] = graph.replicas("Generator")
    return sum(sum(process.cpu_times()[:2]) for process in [replica, *replica.children(recursive=True)])


def engine_rests(graph) -> bool:
    before = engine_seconds(graph)
    time.sleep(0.25)
    return engine_seconds(graph) - before < 0.05


def read_until(graph, session: str, events: int) -> None:
    """Read a reply's first events and hang up."""
    with graph.http.stream("POST", "/v1/chat/completions", json=LONG, headers={"X-Session-Id": session}) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: {") and json.loads(line[6:]).get("choices"):
                events -= 1
            if not events:
                break


def test_a_client_that_leaves_leaves_nothing_behind(graph):
    """The engine rests, the session is free and nothing was kept.

    The shipped model's replies are too short to tell an aborted request from one that ended by itself; that the abort
    reaches the engine's stream is shown in ``tests/unit/apps/test_turn.py``.
    """
    if graph.state.ray is None:
        pytest.skip("needs the processes of the graph")
    session = graph.open_session("kelron")["session_id"]
    read_until(graph, session, events=2)
    graph.eventually(lambda: engine_rests(graph), 10, "the engine rests")
    graph.eventually(
        lambda: graph.ask(session, "짧게 인사해 주십시오.").status_code == 200, 10, "the session is free"
    )
    assert [row.content for row in graph.stored(session) if row.role == "user"] == ["짧게 인사해 주십시오."]
