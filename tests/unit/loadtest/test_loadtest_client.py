import asyncio

from loadtest.client import LoadClient, RequestTrace, closed_loop
from loadtest.mock_server import STATE, Behaviour, make_app, running

QUICK = Behaviour(first_token_s=0.01, token_s=0.0, tokens=5)
BODY = {"model": "haneul", "messages": [], "stream": True, "max_tokens": 64}


async def test_a_completion_is_traced_to_its_end() -> None:
    async with running(make_app(QUICK)) as url, LoadClient(5) as client:
        trace = await client.complete(url, BODY)
    assert trace.ok
    assert (trace.prompt_tokens, trace.output_tokens, trace.finish) == (40, 5, "stop")
    assert trace.adapter == "haneul/mock"
    # The opening event holds no text and must not count as the first token.
    assert len(trace.arrivals) == 5
    assert trace.ttft_s is not None
    assert trace.ttft_s >= 0.01


async def test_a_chat_turn_is_traced_and_the_fan_forgotten() -> None:
    app = make_app(QUICK)
    async with running(app) as url, LoadClient(5) as client:
        session = await client.open_session(url, "haneul", "서윤")
        trace = await client.chat(url, session.session_id, "안녕")
        assert app[STATE].fans == {session.fan_id}
        await client.forget(url, session)
    assert trace.ok
    assert trace.durable
    assert (len(trace.arrivals), trace.output_tokens) == (5, 5)
    assert not app[STATE].fans


async def test_a_second_turn_of_a_busy_session_is_an_error_in_its_trace() -> None:
    async with running(make_app(Behaviour(first_token_s=0.2))) as url, LoadClient(5) as client:
        session = await client.open_session(url, "haneul", "서윤")
        traces = await asyncio.gather(*(client.chat(url, session.session_id, "안녕") for _ in range(2)))
    [failed] = [trace for trace in traces if not trace.ok]
    assert failed.error is not None
    assert failed.error.startswith("HTTP 409")


async def test_an_error_event_a_refusal_a_timeout_and_a_dead_server_are_told_apart() -> None:
    async with running(make_app(Behaviour(fail_every=1))) as url, LoadClient(5) as client:
        broken = await client.complete(url, BODY)
    async with LoadClient(5) as client:
        dead = await client.complete(url, BODY)
    async with running(make_app(Behaviour(first_token_s=5))) as url, LoadClient(0.1) as client:
        late = await client.complete(url, BODY)
        missing = await client.chat(f"{url}/nowhere", "s", "안녕")
    assert broken.error == "error event: the engine failed"
    assert "Connect" in (dead.error or "")
    assert late.error == "timed out"
    assert (missing.error or "").startswith("HTTP 404")


async def test_the_closed_loop_keeps_its_number_in_flight_and_sends_everything_once() -> None:
    flying, highest, seen = 0, 0, []

    async def send(worker: int, prompt: str) -> RequestTrace:
        nonlocal flying, highest
        flying += 1
        highest = max(highest, flying)
        await asyncio.sleep(0.001)
        seen.append(prompt)
        flying -= 1
        return RequestTrace(0.0, 1.0)

    prompts = [str(number) for number in range(20)]
    assert len(await closed_loop(prompts, 4, send)) == 20
    assert highest == 4
    assert sorted(seen) == sorted(prompts)
