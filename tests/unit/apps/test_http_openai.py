"""OpenAI's protocol over fakes."""

import pytest

from tests.unit.apps.http_site import events, open_session


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
    own = site.stage.haneul.card.sampling
    assert (first.temperature, first.seed, first.stop, first.max_tokens, first.top_p) == (0, 7, ("\n",), 5, 0.5)
    assert (second.max_tokens, second.stop, second.temperature) == (9, ("끝",), own.temperature)


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
