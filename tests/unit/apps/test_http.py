"""The HTTP layer over fakes: shapes, statuses and streams. The same calls run end to end in tests/e2e."""

import json

import pytest

from core.contracts import Memory, utc_now
from core.errors import Unavailable
from tests.unit.apps.http_site import NeverAllowed, events, open_session


async def test_a_session_greets_by_name_and_a_chat_answers(site):
    async with site.client() as client:
        opened = await open_session(client)
        assert "서윤" in opened["greeting"]
        assert opened["durable"]
        answer = await client.post("/chat", json={"session_id": opened["session_id"], "message": "안녕"})
        body = answer.json()
        assert answer.status_code == 200
        assert body["reply"] == "응, 왔어?"
        assert set(body) >= {"blocked", "category", "degraded", "sources", "adapter", "durable", "usage", "timings"}
        assert (await client.delete(f"/session/{opened['session_id']}")).status_code == 204
        ended = await client.post("/chat", json={"session_id": opened["session_id"], "message": "안녕"})
        assert ended.status_code == 409


async def test_a_streamed_chat_ends_with_the_same_object(site):
    async with site.client() as client:
        session = await open_session(client)
        body = {"session_id": session["session_id"], "message": "안녕", "stream": True}
        answer = await client.post("/chat", json=body)
        assert answer.headers["content-type"].startswith("text/event-stream")
        *deltas, (last, final) = events(answer.text)
        assert {kind for kind, _ in deltas} == {"delta"}
        assert last == "final"
        assert "".join(data["text"] for _, data in deltas) == final["reply"]
        assert final["durable"]


async def test_an_engine_that_fails_is_503_before_and_an_error_event_after_the_first_word(site):
    async with site.client() as client:
        session = await open_session(client)
        body = {"session_id": session["session_id"], "message": "안녕", "stream": True}
        site.stage.generator.failures = 2
        early = await client.post("/chat", json=body)
        assert (early.status_code, early.headers["retry-after"]) == (503, "5")
        site.stage.generator.reply = "오늘 하루도 고생했어. 푹 쉬고 내일 보자."
        site.stage.generator.fails_after = 9
        late = events((await client.post("/chat", json=body)).text)
        assert late[-1][0] == "error"
        assert late[-1][1]["error"]["code"] == "unavailable"


BAD_CHATS = [
    ({"message": "안녕"}, 422, "session_id"),
    ({"session_id": "s", "message": "안녕", "colour": 1}, 422, "colour"),
    ({"session_id": "s", "message": 7}, 422, "message"),
    ({"session_id": "s", "message": "   "}, 422, "message"),
    ({"session_id": "s", "message": "안\x00녕"}, 422, "message"),
    ({"session_id": "s", "message": "\ud800"}, 422, "message"),
    ({"session_id": "no-such", "message": "안녕"}, 404, "session_id"),
    ({"session_id": "s", "message": "가" * 201}, 413, "message"),
]


@pytest.mark.parametrize(("body", "status", "param"), BAD_CHATS)
async def test_a_bad_chat_is_refused_by_name(site, body, status, param):
    async with site.client() as client:
        content = json.dumps(body, ensure_ascii=True).encode()
        answer = await client.post("/chat", content=content, headers={"content-type": "application/json"})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, param)
    assert set(error) == {"message", "type", "code", "param"}


async def test_what_is_not_json_is_400_and_what_is_not_there_404(site):
    async with site.client() as client:
        broken = await client.post("/chat", content=b"{nope", headers={"content-type": "application/json"})
        assert (broken.status_code, broken.json()["error"]["code"]) == (400, "invalid_request")
        assert (await client.get("/nowhere")).json()["error"]["code"] == "not_found"
        assert (await client.get("/chat")).status_code == 405
        unknown = await client.post("/session", json={"persona": "nobody"})
        assert (unknown.status_code, unknown.json()["error"]["param"]) == (404, "persona")


async def test_an_unexpected_error_shows_no_trace(site, monkeypatch):
    async def explode(session_id):
        raise RuntimeError("secret detail")

    async with site.client() as client:
        monkeypatch.setattr(type(site.stage.long_term), "get_profile", lambda *_: explode("x"))
        answer = await client.get("/profile/fan-1")
    assert answer.status_code == 500
    assert answer.json()["error"]["message"] == "internal error"
    assert "secret" not in answer.text


async def test_health_says_what_is_down(site):
    async with site.client() as client:
        assert (await client.get("/health")).json()["status"] == "ok"
        site.components["qdrant"] = "down"
        degraded = await client.get("/health")
        assert (degraded.status_code, degraded.json()["status"]) == (200, "degraded")
        site.components["generator"] = "down"
        assert (await client.get("/health")).status_code == 503
        site.components |= {"generator": "ok", "redis": "down", "postgres": "down"}
        assert (await client.get("/health")).status_code == 503


async def test_profiles_are_kept_changed_and_erased(site):
    async with site.client() as client:
        assert (await client.get("/profile/fan-1")).status_code == 404
        put = await client.put("/profile/fan-1", json={"name": "민호", "birthday": "03-02"})
        assert put.json() == {"fan_id": "fan-1", "name": "민호", "birthday": "03-02", "favorite": None}
        assert (await client.get("/profile/fan-1")).json()["name"] == "민호"
        assert (await client.put("/profile/fan-1", json={"birthday": "13-40"})).status_code == 422
        assert (await client.get("/profile/fan-1/memories")).json() == {"memories": []}
        assert (await client.delete("/profile/fan-1/memories/nope")).status_code == 404
        assert (await client.delete("/profile/fan-1")).status_code == 204
        assert (await client.get("/profile/fan-1")).status_code == 404


async def test_memories_are_shown_with_the_fans_name(site):
    site.stage.long_term.add_memory(Memory("m1", "fan-1", "haneul", "{{user}}은 떡볶이를 좋아한다.", utc_now()))
    async with site.client() as client:
        nameless = (await client.get("/profile/fan-1/memories")).json()["memories"]
        await client.put("/profile/fan-1", json={"name": "민호"})
        named = (await client.get("/profile/fan-1/memories")).json()["memories"]
    assert [m["text"] for m in nameless + named] == ["스텔라는 떡볶이를 좋아한다.", "민호는 떡볶이를 좋아한다."]


async def test_documents_are_uploaded_listed_and_deleted(site):
    async with site.client(max_upload_bytes=100) as client:
        files = {"file": ("규정.md", "연차는 15일이다.".encode())}
        made = await client.post("/documents", files=files, data={"persona": "kelron"})
        assert made.status_code == 201
        assert [d["id"] for d in (await client.get("/documents?persona=kelron")).json()["documents"]] == ["d0"]
        assert (await client.get("/documents?persona=haneul")).json()["documents"] == []
        assert (await client.delete("/documents/d0")).status_code == 204
        assert (await client.delete("/documents/d0")).status_code == 404
        big = {"file": ("큰.md", b"x" * 101)}
        assert (await client.post("/documents", files=big, data={"persona": "kelron"})).status_code == 413
        assert (await client.post("/documents", files=files, data={"persona": "nobody"})).status_code == 404


async def test_keys_are_asked_for_and_scopes_hold(site):
    async with site.client(require_keys=True) as client:
        assert (await client.get("/health")).status_code == 200
        missing = await client.get("/v1/models")
        assert (missing.status_code, missing.headers["www-authenticate"]) == (401, "Bearer")
        wrong = await client.get("/v1/models", headers={"authorization": "Bearer nope"})
        assert wrong.status_code == 401
        chat = {"authorization": "Bearer am-chat"}
        assert (await client.get("/v1/models", headers=chat)).status_code == 200
        assert (await client.get("/admin/adapters", headers=chat)).status_code == 403
        admin = {"authorization": "Bearer am-admin"}
        made = await client.post("/admin/keys", json={"label": "new"}, headers=admin)
        assert made.json()["key"] == "am-new"
        assert (
            await client.post("/admin/keys", json={"label": "x", "scopes": ["root"]}, headers=admin)
        ).status_code == 422


async def test_a_caller_over_the_rate_waits(site):
    async with site.client(rate_limit=NeverAllowed()) as client:
        answer = await client.get("/v1/models")
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limited")
    assert answer.headers["retry-after"]


async def test_adapters_are_rolled_out_and_back(site):
    async with site.client() as client:
        states = {a["version"]: a["state"] for a in (await client.get("/admin/adapters")).json()["adapters"]}
        assert states == {"v1": "live", "v2": "candidate"}
        canary = await client.post("/admin/adapters/haneul/v2/canary", json={"share": 10})
        assert {a["version"]: a["share"] for a in canary.json()["adapters"]}["v2"] == 10
        assert (await client.post("/admin/adapters/haneul/v2/promote")).status_code == 200
        assert (await client.post("/admin/adapters/haneul/v2/promote")).status_code == 409
        assert (await client.post("/admin/adapters/haneul/v9/promote")).status_code == 404
        back = (await client.post("/admin/adapters/haneul/rollback")).json()["adapters"]
        assert {a["version"]: a["state"] for a in back} == {"v1": "live", "v2": "retired"}


async def test_stores_that_are_both_down_are_503(site):
    async with site.client() as client:
        session = await open_session(client)
        site.stage.long_term.down = site.stage.short_term.down = True
        answer = await client.post("/chat", json={"session_id": session["session_id"], "message": "안녕"})
    assert answer.status_code == Unavailable.status
    assert answer.headers["retry-after"]
