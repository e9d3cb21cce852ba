"""The official ``openai`` client, unchanged, against ``/v1``."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

MESSAGES = [{"role": "user", "content": "오늘 하루 어땠어? 자세히 말해 줘."}]
FIXED = {"model": "haneul", "messages": MESSAGES, "temperature": 0, "seed": 11, "max_tokens": 32}


@pytest.fixture
def client(graph) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{graph.url}/v1", api_key="not-needed-on-loopback", max_retries=0) as made:
        yield made


def test_models_are_the_characters(client):
    assert {model.id for model in client.models.list()} == {"haneul", "hotaru", "kelron", "mir"}
    assert client.models.retrieve("kelron").owned_by == "artistmind"


def test_an_answer_has_text_usage_and_a_reason(client):
    answer = client.chat.completions.create(**FIXED)
    [choice] = answer.choices
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 0
    assert 0 < answer.usage.completion_tokens <= 32
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.id.startswith("chatcmpl-")


def test_a_stream_says_the_same_as_the_whole_answer(client):
    whole = client.chat.completions.create(**FIXED)
    chunks = list(client.chat.completions.create(**FIXED, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert reasons[-1] == whole.choices[0].finish_reason
    assert set(reasons[:-1]) == {None}
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1


def test_the_same_seed_gives_the_same_text(client):
    drawn = [client.chat.completions.create(**FIXED | {"temperature": 0.9}).choices[0] for _ in range(2)]
    assert drawn[0].message.content == drawn[1].message.content
    others = {
        client.chat.completions.create(**FIXED | {"temperature": 1.2, "seed": seed}).choices[0].message.content
        for seed in (1, 2, 3)
    }
    assert len(others) > 1


def test_stop_ends_the_text_before_the_word(client):
    whole = client.chat.completions.create(**FIXED).choices[0].message.content
    stop = whole[len(whole) // 2]
    answer = client.chat.completions.create(**FIXED, stop=[stop])
    assert answer.choices[0].message.content.rstrip() == whole[: whole.index(stop)].rstrip()
    assert answer.choices[0].finish_reason == "stop"


def test_max_tokens_cuts_and_says_length(client):
    answer = client.chat.completions.create(**FIXED | {"max_tokens": 3})
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 3


def test_completions_whole_and_streamed(client):
    asked = {"model": "kelron", "prompt": "연차는 며칠입니까?", "temperature": 0, "seed": 3, "max_tokens": 24}
    whole = client.completions.create(**asked)
    assert whole.object == "text_completion"
    assert whole.choices[0].text
    streamed = "".join(chunk.choices[0].text for chunk in client.completions.create(**asked, stream=True))
    assert streamed == whole.choices[0].text


@pytest.mark.parametrize(
    ("parameter", "value"),
    [("n", 2), ("logprobs", True), ("tools", [{"type": "function", "function": {"name": "f"}}])],
)
def test_what_is_not_supported_is_named(client, parameter, value):
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**FIXED, **{parameter: value})
    assert refused.value.param == parameter
    assert refused.value.code == "unsupported_parameter"


def test_an_unknown_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(**FIXED | {"model": "gpt-4o"})


def test_a_turn_in_a_session_is_stored_and_remembered(client, graph):
    session = graph.open_session(name="서윤")["session_id"]
    asked = FIXED | {"messages": [{"role": "user", "content": "내 우산은 노란색이야."}]}
    answer = client.chat.completions.create(**asked, extra_headers={"X-Session-Id": session})
    assert answer.model_extra["artistmind"]["durable"] is True
    assert [row.content for row in graph.stored(session) if row.role == "user"] == ["내 우산은 노란색이야."]
    assert graph.chat(session, "내 우산이 무슨 색이라고?")["durable"]
    assert len(graph.window(session)) == 4


def test_done_comes_after_the_commit(client, graph):
    session = graph.open_session()["session_id"]
    for _ in client.chat.completions.create(**FIXED, stream=True, extra_headers={"X-Session-Id": session}):
        pass
    assert len(graph.stored(session)) == 2


def test_a_call_without_a_session_is_not_stored(client, graph, fan):
    client.chat.completions.create(**FIXED, user=fan)
    assert graph.rows("SELECT 1 FROM sessions WHERE fan_id = %s", fan) == []
