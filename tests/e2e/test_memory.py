"""Long-term memory: what a fan told is kept, comes back in the next session, and can be erased."""

from __future__ import annotations

import pytest

TOLD = ("내 최애는 하늘이야!", "내 생일은 5월 17일이야", "나는 떡볶이를 진짜 좋아해")
WAIT_S = 30


@pytest.fixture
def remembered(graph, fan) -> list[dict]:
    """The memories of a fan who told three things and left."""
    session = graph.open_session("haneul", fan, name="서윤")["session_id"]
    for message in TOLD:
        assert graph.chat(session, message)["durable"]
    assert graph.http.delete(f"/session/{session}").status_code == 204

    def written() -> list[dict]:
        found = graph.memories(fan)
        return found if len(found) >= len(TOLD) else []

    return graph.eventually(written, WAIT_S, "the writer keeps what the fan told")


def sources(graph, fan: str, question: str) -> list[str]:
    """Ids of what a new session's first turn was given to read."""
    session = graph.open_session("haneul", fan)["session_id"]
    return [source["id"] for source in graph.chat(session, question)["sources"]]


def about(memories: list[dict], word: str) -> dict:
    [found] = [memory for memory in memories if word in memory["text"]]
    return found


def test_what_was_told_is_kept_and_fills_the_profile(graph, fan, remembered):
    for word in ("최애는 하늘", "5월 17일", "떡볶이"):
        memory = about(remembered, word)
        assert memory["persona"] == "haneul"
        assert "{{user}}" not in memory["text"], "the fan sees the name"
    stored = [row.text for row in graph.rows("SELECT text FROM memories WHERE fan_id = %s", fan)]
    assert stored
    assert not any("서윤" in text for text in stored), "names stay out of the stores"
    profile = graph.http.get(f"/profile/{fan}").json()
    assert (profile["name"], profile["birthday"], profile["favorite"]) == ("서윤", "05-17", "하늘")
    [summary] = graph.rows("SELECT text FROM summaries WHERE fan_id = %s", fan)
    assert summary.text


def test_the_next_session_gets_the_memories_and_a_stranger_does_not(graph, fan, remembered):
    memory = about(remembered, "떡볶이")["id"]
    question = "내가 떡볶이를 좋아한다고 한 거 기억나?"
    graph.eventually(lambda: memory in sources(graph, fan, question), WAIT_S, "the memory is found again")
    assert memory not in sources(graph, f"{fan}-other", question)


def test_a_longer_past_makes_a_longer_prompt(graph, fan, remembered):
    """The profile and the memories reach the model: the same words cost more prompt tokens."""
    question = "오늘 뭐 할까?"
    known = graph.chat(graph.open_session("haneul", fan)["session_id"], question)
    stranger = graph.chat(graph.open_session("haneul", f"{fan}-new")["session_id"], question)
    assert known["usage"]["prompt_tokens"] > stranger["usage"]["prompt_tokens"] + 10


def test_one_memory_can_be_forgotten(graph, fan, remembered):
    memory = about(remembered, "떡볶이")["id"]
    question = "내가 떡볶이를 좋아한다고 한 거 기억나?"
    graph.eventually(lambda: memory in sources(graph, fan, question), WAIT_S, "the memory is indexed")
    assert graph.http.delete(f"/profile/{fan}/memories/{memory}").status_code == 204
    assert memory not in [left["id"] for left in graph.memories(fan)]
    assert memory not in sources(graph, fan, question)
    assert graph.http.delete(f"/profile/{fan}/memories/{memory}").status_code == 404


def test_erasing_a_fan_erases_them_everywhere(graph, fan, remembered):
    memory = about(remembered, "떡볶이")["id"]
    question = "내가 떡볶이를 좋아한다고 한 거 기억나?"
    graph.eventually(lambda: memory in sources(graph, fan, question), WAIT_S, "the memory is indexed")
    sessions = [row.session_id for row in graph.rows("SELECT session_id FROM sessions WHERE fan_id = %s", fan)]
    assert len(sessions) >= 2
    assert graph.http.delete(f"/profile/{fan}").status_code == 204
    assert graph.http.get(f"/profile/{fan}").status_code == 404
    for table in ("fans", "sessions", "summaries", "memories"):
        assert graph.rows(f"SELECT 1 FROM {table} WHERE fan_id = %s", fan) == [], table
    assert graph.rows("SELECT 1 FROM messages WHERE session_id = ANY(%s)", sessions) == []
    assert [key for session in sessions for key in graph.redis_keys(f"*{session}*")] == []
    assert memory not in sources(graph, fan, question), "its vector is gone, too"
    assert graph.http.delete(f"/profile/{fan}").status_code in (204, 404)
    assert graph.memories(fan) == []


def test_a_profile_can_be_changed_by_hand(graph, fan):
    assert graph.http.get(f"/profile/{fan}").status_code == 404
    body = {"name": "지우", "birthday": "2004-11-02", "favorite": "세아"}
    assert graph.http.put(f"/profile/{fan}", json=body).json() == {"fan_id": fan, **body}
    assert "지우야" in graph.open_session("haneul", fan)["greeting"]
