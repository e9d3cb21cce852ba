"""The measurement: the same load on each server in turn, one at a time, round after round."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from loadtest.client import ChatSession, LoadClient, RequestTrace, closed_loop
from loadtest.config import BenchConfig
from loadtest.metrics import Step, Summary, summarise
from loadtest.workload import FAN_NAMES, Character, MessageSource, bare_messages, completion_body

GRAPH, BARE, BASE = "graph", "bare", "bare-base"
CHAT_WORKERS = 8
Say = Callable[[str], None]


@dataclass(frozen=True)
class Arm:
    """One way to get a reply: where it is asked, and how."""

    name: str
    url: str
    body: Callable[[str], dict[str, Any]]


@dataclass
class Measured:
    """What was found out; filled as it goes, so that a run cut short keeps what it has."""

    steps: list[Step] = field(default_factory=list)
    chat: Summary | None = None
    not_durable: int = 0
    first_error: str | None = None
    degraded: set[str] = field(default_factory=set)
    adapters: set[str] = field(default_factory=set)
    cut_short: bool = False

    def note(self, traces: Sequence[RequestTrace]) -> None:
        """Remember what must be known about the run beside its figures."""
        for trace in traces:
            self.first_error = self.first_error or trace.error
            self.degraded.update(trace.degraded)
            if trace.adapter:
                self.adapters.add(trace.adapter)


def make_arms(
    config: BenchConfig, character: Character, bare_url: str, bare_model: str, base_model: str
) -> list[Arm]:
    """Graph, bare server, and on request the bare server without the adapter; in this order they take turns."""
    sampling = {
        "max_tokens": config.max_tokens,
        "temperature": character.temperature if config.temperature is None else config.temperature,
        "top_p": character.top_p if config.top_p is None else config.top_p,
        "seed": config.seed,
    }

    def ask_graph(message: str) -> dict[str, Any]:
        # The graph writes the system message itself.
        return completion_body(config.persona, [{"role": "user", "content": message}], sampling)

    def ask_bare(model: str) -> Callable[[str], dict[str, Any]]:
        return lambda message: completion_body(model, bare_messages(character, message), sampling)

    arms = [Arm(GRAPH, config.graph, ask_graph), Arm(BARE, bare_url, ask_bare(bare_model))]
    return arms + ([Arm(BASE, bare_url, ask_bare(base_model))] if config.with_base else [])


async def measure(config: BenchConfig, arms: Sequence[Arm], messages: MessageSource, say: Say) -> Measured:
    """Warm up, take turns, then the ``/chat`` arm if asked for; ends at the time limit with what it has."""
    measured = Measured()
    try:
        async with asyncio.timeout(config.time_limit_s), LoadClient(config.request_timeout_s) as client:
            await _warm_up(client, config, arms, messages, say)
            await _take_turns(client, config, arms, messages, measured, say)
            if config.chat:
                say(f"/chat, {CHAT_WORKERS} fans")
                await _measure_chat(client, config, messages, measured)
    except TimeoutError:
        measured.cut_short = True
    return measured


async def _warm_up(
    client: LoadClient, config: BenchConfig, arms: Sequence[Arm], messages: MessageSource, say: Say
) -> None:
    """Load adapters, fill caches and compile whatever is compiled on first use, at the highest load."""
    workers = max(config.concurrency)
    prompts = messages.take(max(workers, 4))
    for arm in arms:
        say(f"warming up {arm.name}")
        await _run(client, arm, prompts, workers)


async def _take_turns(
    client: LoadClient,
    config: BenchConfig,
    arms: Sequence[Arm],
    messages: MessageSource,
    measured: Measured,
    say: Say,
) -> None:
    for concurrency in config.concurrency:
        for number in range(1, config.rounds + 1):
            prompts = messages.take(config.step_size(concurrency))
            for arm in arms:
                say(f"concurrency {concurrency}, round {number}/{config.rounds}: {arm.name}")
                traces = await _run(client, arm, prompts, concurrency)
                measured.note(traces)
                measured.steps.append(
                    Step(arm=arm.name, concurrency=concurrency, round=number, summary=summarise(traces))
                )


async def _run(client: LoadClient, arm: Arm, prompts: list[str], workers: int) -> list[RequestTrace]:
    async def send(_worker: int, prompt: str) -> RequestTrace:
        return await client.complete(arm.url, arm.body(prompt))

    return await closed_loop(prompts, workers, send)


async def _measure_chat(client: LoadClient, config: BenchConfig, messages: MessageSource, measured: Measured) -> None:
    """Each fan has a session and a name of their own and sends one message after the other."""
    sessions: list[ChatSession] = []
    try:
        for worker in range(CHAT_WORKERS):
            name = FAN_NAMES[worker % len(FAN_NAMES)]
            sessions.append(await client.open_session(config.graph, config.persona, name))

        async def send(worker: int, prompt: str) -> RequestTrace:
            return await client.chat(config.graph, sessions[worker].session_id, prompt)

        await closed_loop(messages.take(CHAT_WORKERS), CHAT_WORKERS, send)
        traces = await closed_loop(messages.take(config.step_size(CHAT_WORKERS)), CHAT_WORKERS, send)
        measured.note(traces)
        measured.chat = summarise(traces)
        measured.not_durable = sum(trace.durable is False for trace in traces)
    except aiohttp.ClientError as error:
        now = time.perf_counter()
        failed = [RequestTrace(started=now, ended=now, error=f"/session: {error}")]
        measured.note(failed)
        measured.chat = summarise(failed)
    finally:
        await asyncio.gather(*(client.forget(config.graph, session) for session in sessions))
