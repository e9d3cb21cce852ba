"""A new adapter version goes live and back while fans are chatting: no restart, no failed request."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.manifest import read_manifest
from adapters.rollout import fan_bucket
from adapters.store import AdapterStore
from core.contracts import utc_now
from core.settings import Settings

PERSONA = "haneul"
NOTICED_WITHIN_S = 2.0


def states(graph) -> dict[str, str]:
    answer = graph.http.get("/admin/adapters", params={"persona": PERSONA})
    assert answer.status_code == 200, answer.text
    return {row["version"]: row["state"] for row in answer.json()["adapters"]}


def live(graph) -> str:
    [version] = [version for version, state in states(graph).items() if state == "live"]
    return version


def act(graph, path: str, **body: Any) -> None:
    answer = graph.http.post(f"/admin/adapters/{PERSONA}/{path}", json=body)
    assert answer.is_success, answer.text


def answers_with(graph, fan: str) -> str:
    """The version that answers this fan now."""
    session = graph.open_session(PERSONA, fan)["session_id"]
    return graph.chat(session, "안녕")["adapter"].removeprefix(f"{PERSONA}/")


def fan_in(share: int, inside: bool) -> str:
    while True:
        fan = f"fan-{uuid.uuid4().hex[:8]}"
        if (fan_bucket(PERSONA, fan) < share) is inside:
            return fan


@pytest.fixture
def published(graph) -> Iterator[str]:
    """A second version of the live adapter, published beside it and noticed."""
    before, version = live(graph), f"e2e-{uuid.uuid4().hex[:6]}"
    store = AdapterStore(Settings(home=graph.home).adapter_roots)
    folder: Path = store.path(PERSONA, before)
    update = {"version": version, "created_at": utc_now().isoformat()}
    store.publish(folder, read_manifest(folder).model_copy(update=update))
    graph.eventually(lambda: version in states(graph), 5, "a published version becomes a candidate")
    yield version
    if states(graph)[version] == "live":
        act(graph, "rollback")
    elif states(graph)[version] != "retired":
        act(graph, f"{version}/retire")
    assert live(graph) == before


def test_canary_promotion_and_rollback_under_load(graph, load, published):
    before = live(graph)
    assert states(graph)[published] == "candidate"
    inside, outside = fan_in(50, True), fan_in(50, False)
    with load(clients=2, persona=PERSONA) as chats:
        act(graph, f"{published}/canary", share=50)
        time.sleep(NOTICED_WITHIN_S)
        for _ in range(2):  # a fan stays on one side
            assert (answers_with(graph, inside), answers_with(graph, outside)) == (published, before)

        act(graph, f"{published}/promote")
        time.sleep(NOTICED_WITHIN_S)
        assert (answers_with(graph, inside), answers_with(graph, outside)) == (published, published)
        assert states(graph)[before] == "retired"

        act(graph, "rollback")
        time.sleep(NOTICED_WITHIN_S)
        assert (answers_with(graph, inside), answers_with(graph, outside)) == (before, before)
        assert states(graph)[published] == "retired"
    assert chats.failures == []
    assert {final["adapter"] for final in chats.finals} == {f"{PERSONA}/{before}", f"{PERSONA}/{published}"}


def test_moves_that_make_no_sense_are_refused(graph, published):
    for path, body in ((f"{published}/canary", {"share": 0}), (f"{live(graph)}/retire", {})):
        answer = graph.http.post(f"/admin/adapters/{PERSONA}/{path}", json=body)
        assert answer.status_code == 409, answer.text
    assert graph.http.post("/admin/adapters/kelron/rollback").status_code == 409, "there is nothing to go back to"
    assert states(graph)[published] == "candidate"


def test_an_adapter_without_its_manifest_is_not_there(graph):
    half = Settings(home=graph.home).adapter_roots[0] / PERSONA / f"e2e-half-{uuid.uuid4().hex[:6]}"
    half.mkdir(parents=True)
    (half / "adapter_model.safetensors").write_bytes(b"half")
    time.sleep(NOTICED_WITHIN_S)
    assert half.name not in states(graph)
    assert graph.http.post(f"/admin/adapters/{PERSONA}/{half.name}/promote").status_code == 404
