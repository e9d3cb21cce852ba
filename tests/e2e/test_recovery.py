"""Killed parts come back by themselves under load, and no turn that a client saw finished is lost."""

from __future__ import annotations

import json
from collections import Counter

import httpx
import psutil
import pytest

BACK_S = 120


def serves(graph) -> bool:
    """A new fan gets a full answer: every part is there."""
    try:
        turn = graph.chat(graph.open_session()["session_id"], "안녕")
    except (httpx.HTTPError, AssertionError):
        return False
    return turn["durable"] and not turn["degraded"]


def supervisor_events(graph) -> Counter[tuple[str, str]]:
    """``(event, server)`` pairs of the supervisor's own log."""
    lines = (graph.home / "logs" / "supervisor.log").read_text().splitlines()
    events = [json.loads(line) for line in lines if line.startswith("{")]
    return Counter((event["event"], event.get("server", "")) for event in events)


def kill_server(graph, name: str) -> None:
    before = supervisor_events(graph)
    killed = graph.server(name)
    graph.kill(killed)
    restarted = ("server_restarted", name)
    graph.eventually(lambda: supervisor_events(graph)[restarted] > before[restarted], 30, f"{name} is restarted")
    assert supervisor_events(graph)["server_died", name] > before["server_died", name]
    assert graph.server(name).pid != killed.pid


def kill_replica(graph, deployment: str) -> list[psutil.Process]:
    """Kill a replica with all that it runs; returns what was killed."""
    [replica] = graph.replicas(deployment)
    family = [replica, *replica.children(recursive=True)]
    for process in family:
        if process.is_running():
            graph.kill(process)
    graph.eventually(lambda: graph.replicas(deployment), BACK_S, f"{deployment} has a new replica")
    return family


@pytest.mark.timeout(420, func_only=True)
def test_everything_that_is_killed_comes_back_and_no_finished_turn_is_lost(breakable, load):
    graph = breakable
    with load(clients=4) as chats:
        graph.eventually(lambda: len(chats.finals) >= 4, 60, "the load is on")
        for server in ("redis", "postgres"):
            kill_server(graph, server)
            graph.eventually(lambda: serves(graph), BACK_S, f"full answers after {server} was killed")
        for deployment in ("Gateway", "Generator"):
            killed = kill_replica(graph, deployment)
            graph.eventually(lambda: serves(graph), BACK_S, f"full answers after {deployment} was killed")
            assert not {p.pid for p in killed} & {p.pid for p in graph.replicas(deployment)}
        seen = len(chats.finals)
        graph.eventually(lambda: len(chats.finals) >= seen + 4, 90, "the fans chat on")

    turns = Counter(final["turn_id"] for final in chats.finals)
    assert set(turns.values()) == {1}
    durable = [final["turn_id"] for final in chats.finals if final["durable"]]
    assert stored_twice(graph, durable) == set(durable), "a turn that was promised to be kept is lost"
    everything = set(turns)
    graph.eventually(lambda: stored_twice(graph, [*everything]) == everything, 40, "spooled turns are drained")
    assert graph.redis_keys("am:lock:*") == [] or graph.eventually(
        lambda: graph.redis_keys("am:lock:*") == [], 150, "no session stays locked"
    )


def stored_twice(graph, turn_ids: list[str]) -> set[str]:
    """Those of which both messages, and each once, are in PostgreSQL."""
    query = "SELECT turn_id FROM messages WHERE turn_id = ANY(%s) GROUP BY turn_id HAVING count(*) = 2"
    return {row.turn_id for row in graph.rows(query, turn_ids)}
