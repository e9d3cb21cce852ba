"""Each row of the degradation table, with the server in question really stopped.

A server that died is back within two seconds, so PostgreSQL and Redis are held (SIGSTOP): alive, and mute. What
was given up is never silent: the reply's ``degraded`` says it.
"""

from __future__ import annotations

import uuid

BACK_S = 90
DRAINED_S = 40


def test_without_redis_the_history_comes_from_postgres(breakable):
    graph = breakable
    session = graph.open_session()["session_id"]
    graph.chat(session, "첫 번째 이야기")
    with graph.held("redis"):
        turn = graph.chat(session, "두 번째 이야기")
        assert turn["reply"]
        assert "redis" in turn["degraded"]
        assert turn["durable"]
        assert len(graph.stored(session)) == 4
        health = graph.http.get("/health")
        assert (health.status_code, health.json()["components"]["redis"]) == (200, "down")
    back = graph.chat(session, "세 번째 이야기")
    assert back["degraded"] == []
    asked = [message.content for message in graph.window(session) if message.role == "user"]
    assert asked == ["첫 번째 이야기", "두 번째 이야기", "세 번째 이야기"], "nothing is missing from the conversation"


def test_without_postgres_turns_are_spooled_and_drained_later(breakable, fan):
    graph = breakable
    session = graph.open_session("haneul", fan, name="서윤")["session_id"]
    graph.chat(session, "첫 번째 이야기")
    with graph.held("postgres"):
        turn = graph.stream(session, "두 번째 이야기").final
        assert turn["reply"]
        assert "postgres" in turn["degraded"]
        assert turn["durable"] is False
        opened = graph.open_session("haneul")
        assert opened["durable"] is False
        late = graph.chat(opened["session_id"], "세 번째 이야기")
        assert late["durable"] is False
        health = graph.http.get("/health")
        assert (health.status_code, health.json()["components"]["postgres"]) == (200, "down")

    def drained() -> bool:
        return len(graph.stored(session)) == 4 and len(graph.stored(opened["session_id"])) == 2

    graph.eventually(drained, DRAINED_S, "spooled turns are in PostgreSQL")
    assert [row.turn_id for row in graph.stored(session)][2:] == [turn["turn_id"]] * 2
    assert graph.rows("SELECT persona FROM sessions WHERE session_id = %s", opened["session_id"])
    graph.eventually(lambda: graph.chat(session, "네 번째 이야기")["durable"], 30, "turns are durable again")


def test_without_both_a_turn_is_refused_and_not_half_kept(breakable):
    graph = breakable
    session = graph.open_session()["session_id"]
    with graph.held("redis", "postgres"):
        refused = graph.ask(session, "아무도 못 듣는 이야기")
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) > 0
        assert refused.json()["error"]["type"] == "server_error"
        assert graph.http.get("/health").status_code == 503
        assert graph.http.post("/session", json={"persona": "haneul"}).status_code == 503
    graph.eventually(lambda: graph.ask(session, "다시 안녕").status_code == 200, 30, "turns are served again")
    assert [row.content for row in graph.stored(session) if row.role == "user"] == ["다시 안녕"]


def test_without_the_retriever_the_reply_comes_without_sources(breakable):
    graph = breakable
    session = graph.open_session("kelron")["session_id"]
    question = "연차 휴가는 며칠입니까?"
    assert graph.chat(session, question)["sources"]
    graph.kill(graph.replicas("Retriever")[0])
    turn = graph.chat(session, question)
    assert turn["reply"]
    assert (turn["degraded"], turn["sources"], turn["durable"]) == (["qdrant"], [], True)
    graph.eventually(lambda: graph.chat(session, question)["sources"], BACK_S, "the retriever is back")


def test_without_the_embedder_the_search_goes_by_words(breakable):
    graph = breakable
    session = graph.open_session("kelron")["session_id"]
    question = "연차 휴가는 며칠입니까?"
    graph.kill(graph.replicas("Embedder")[0])
    turn = graph.chat(session, question)
    assert turn["reply"]
    assert (turn["degraded"], turn["durable"]) == (["embedder"], True)
    graph.eventually(lambda: not graph.chat(session, question)["degraded"], BACK_S, "the embedder is back")


def test_without_the_guard_nothing_passes_unchecked(breakable):
    graph = breakable
    session = graph.open_session()["session_id"]
    graph.kill(graph.replicas("Guard")[0])
    message = f"씨발 꺼져 {uuid.uuid4().hex[:6]}"
    answer = graph.ask(session, message)
    assert answer.status_code == 503 or answer.json()["blocked"], answer.text
    back = graph.eventually(lambda: _served(graph, session, message), BACK_S, "the guard is back")
    assert back["blocked"]


def _served(graph, session: str, message: str):
    answer = graph.ask(session, message)
    assert answer.status_code in (200, 503), answer.text
    return answer.json() if answer.status_code == 200 else None
