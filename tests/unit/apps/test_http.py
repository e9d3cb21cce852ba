"""The HTTP layer over fakes: shapes, statuses and streams. The same calls run end to end in tests/e2e."""

import json
from types import SimpleNamespace

import httpx
import pytest

from adapters.rollout import RolloutTable
from apps.chat.args import GatewayArgs
from apps.chat.http_app import create_http_app
from apps.chat.rate_limit import NoLimit
from apps.chat.services import GatewayServices
from core.contracts import Memory, utc_now
from core.errors import Unavailable
from memory.documents_store import StoredDocument


class FakeKeys:
    def __init__(self):
        self.keys = {"am-chat": frozenset({"chat"}), "am-admin": frozenset({"chat", "admin"})}

    async def verify(self, key):
        return self.keys.get(key)

    async def create(self, label, scopes):
        self.keys["am-new"] = frozenset(scopes)
        return "am-new"

    async def list(self):
        return []

    async def revoke(self, key_id):
        return False


class FakeUploads:
    def __init__(self):
        self.documents = {}

    async def add(self, persona, filename, content, category):
        document = StoredDocument(f"d{len(self.documents)}", persona, filename, category, "0", 1, utc_now())
        self.documents[document.document_id] = document
        return document

    async def list(self, persona):
        return [d for d in self.documents.values() if persona in (None, d.persona)]

    async def delete(self, document_id):
        return self.documents.pop(document_id, None) is not None


class NeverAllowed:
    async def allow(self, caller):
        return False


class FakeRollouts:
    def __init__(self):
        self.table = RolloutTable().add("haneul", "v1").promote("haneul", "v1").add("haneul", "v2")

    async def promote(self, persona, version):
        self.table = self.table.promote(persona, version)
        return self.table

    async def canary(self, persona, version, share):
        self.table = self.table.canary(persona, version, share)
        return self.table

    async def rollback(self, persona):
        self.table = self.table.rollback(persona)
        return self.table


@pytest.fixture
def site(stage):
    """The stage with an HTTP client in front; ``configure`` changes what the gateway is given."""
    site = SimpleNamespace(stage=stage, components=dict.fromkeys(["postgres", "redis", "qdrant", "generator"], "ok"))

    async def health():
        return site.components

    async def erase_fan(fan_id):
        await stage.long_term.delete_fan(fan_id)
        return fan_id == "fan-1"

    def client(rate_limit=None, **args):
        services = GatewayServices(
            args=GatewayArgs(max_message_chars=200, **args),
            library=stage.library,
            sessions=stage.sessions,
            turns=stage.turns(),
            check_input=stage.check_input,
            long_term=stage.long_term,
            erase_fan=erase_fan,
            delete_memory=stage.long_term.delete_memory,
            uploads=FakeUploads(),
            keys=FakeKeys(),
            rollouts=FakeRollouts(),
            rate_limit=rate_limit or NoLimit(),
            health=health,
        )
        transport = httpx.ASGITransport(create_http_app(services), raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://test")

    site.client = client
    return site


def events(text):
    parsed = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        data = fields["data"]
        parsed.append((fields.get("event"), data if data == "[DONE]" else json.loads(data)))
    return parsed


async def open_session(client, **fields):
    body = {"persona": "haneul", "fan_id": "fan-1", "profile": {"name": "서윤"}} | fields
    answer = await client.post("/session", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


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


# --- OpenAI's protocol -----------------------------------------------------------------------------------------


def chat_body(**fields):
    return {"model": "haneul", "messages": [{"role": "user", "content": "안녕"}]} | fields


async def test_v1_answers_in_openais_shape(site):
    async with site.client() as client:
        body = (await client.post("/v1/chat/completions", json=chat_body())).json()
        assert body["object"] == "chat.completion"
        assert body["choices"][0]["message"]["content"] == "응, 왔어?"
        assert body["choices"][0]["finish_reason"] == "stop"
        assert body["usage"]["total_tokens"] == 10 + len("응, 왔어?")
        text = (await client.post("/v1/completions", json={"model": "haneul", "prompt": "안녕"})).json()
        assert (text["object"], text["choices"][0]["text"]) == ("text_completion", "응, 왔어?")
        assert [m["id"] for m in (await client.get("/v1/models")).json()["data"]] == [
            "haneul",
            "hotaru",
            "kelron",
            "mir",
        ]
        assert (await client.get("/v1/models/kelron")).json()["id"] == "kelron"
        assert (await client.get("/v1/models/gpt-4")).status_code == 404


async def test_v1_streams_with_usage_and_done_last(site):
    async with site.client() as client:
        body = chat_body(stream=True, stream_options={"include_usage": True})
        chunks = [data for _, data in events((await client.post("/v1/chat/completions", json=body)).text)]
    *parts, usage, done = chunks
    assert done == "[DONE]"
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], len("응, 왔어?"))
    assert parts[0]["choices"][0]["delta"]["role"] == "assistant"
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in parts) == "응, 왔어?"
    assert parts[-1]["choices"][0]["finish_reason"] == "stop"
    assert len({c["id"] for c in [*parts, usage]}) == 1


async def test_v1_passes_sampling_on(site):
    async with site.client() as client:
        body = chat_body(temperature=0, seed=7, stop=["\n"], max_tokens=5, top_p=0.5, frequency_penalty=0.1)
        assert (await client.post("/v1/chat/completions", json=body)).status_code == 200
        await client.post("/v1/chat/completions", json=chat_body(max_completion_tokens=9, stop="끝"))
    first, second = site.stage.generator.samplings
    assert (first.temperature, first.seed, first.stop, first.max_tokens, first.top_p) == (0, 7, ("\n",), 5, 0.5)
    assert (second.max_tokens, second.stop, second.temperature) == (9, ("끝",), 0.7)


REFUSED = [
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
    ({"n": 2}, "n"),
    ({"logprobs": True}, "logprobs"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"made_up": 1}, "made_up"),
    ({"temperature": 3}, "temperature"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "assistant", "content": "응"}]}, "messages"),
    ({"messages": "안녕"}, "messages"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
]


@pytest.mark.parametrize(("fields", "param"), REFUSED)
async def test_v1_refuses_with_400_and_the_name(site, fields, param):
    async with site.client() as client:
        answer = await client.post("/v1/chat/completions", json=chat_body(**fields))
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith(param)
    assert site.stage.generator.prompts == []


async def test_v1_takes_parameters_that_change_nothing(site):
    async with site.client() as client:
        body = chat_body(n=1, logprobs=False, tools=None, response_format={"type": "text"})
        assert (await client.post("/v1/chat/completions", json=body)).status_code == 200


async def test_v1_history_drops_what_the_filter_blocks_and_keeps_system_text_out_of_the_persona(site):
    messages = [
        {"role": "system", "content": "지금은 비 오는 저녁이야."},
        {"role": "user", "content": "씨발 꺼져"},
        {"role": "assistant", "content": "그런 말은 속상해"},
        {"role": "user", "content": [{"type": "text", "text": "나 오늘 시험 봤어"}]},
        {"role": "assistant", "content": "고생했어"},
        {"role": "user", "content": "잘 봤을까?"},
    ]
    async with site.client() as client:
        await client.post("/v1/chat/completions", json=chat_body(messages=messages))
    [prompt] = site.stage.generator.prompts
    assert [m.content for m in prompt[1:3]] == ["나 오늘 시험 봤어", "고생했어"]
    assert "비 오는" not in prompt[0].content
    assert "비 오는 저녁" in prompt[-2].content


async def test_v1_in_a_session_is_remembered(site):
    async with site.client() as client:
        session = await open_session(client)
        headers = {"X-Session-Id": session["session_id"]}
        answer = await client.post("/v1/chat/completions", json=chat_body(), headers=headers)
        assert answer.json()["artistmind"]["durable"]
        other = await client.post("/v1/chat/completions", json=chat_body(model="kelron"), headers=headers)
        assert (other.status_code, other.json()["error"]["param"]) == (400, "model")
    assert len(await site.stage.long_term.history(session["session_id"], 20)) == 2


async def test_v1_says_content_filter_when_blocked(site):
    async with site.client() as client:
        body = chat_body(messages=[{"role": "user", "content": "씨발 꺼져"}])
        choice = (await client.post("/v1/chat/completions", json=body)).json()["choices"][0]
    assert choice["finish_reason"] == "content_filter"
    assert choice["message"]["content"]


async def test_stores_that_are_both_down_are_503(site):
    async with site.client() as client:
        session = await open_session(client)
        site.stage.long_term.down = site.stage.short_term.down = True
        answer = await client.post("/chat", json={"session_id": session["session_id"], "message": "안녕"})
    assert answer.status_code == Unavailable.status
    assert answer.headers["retry-after"]
