"""One chat turn, from the fan's message to the committed reply. Plain async Python: no Ray, no HTTP.

The input check, the history, the fan's profile and the retrieval run at the same time; a block cancels the rest.
The reply streams through a hold-back window, and the final event is sent only after the turn is committed:

    Postgres takes it                    durable: true
    Postgres is down, Redis spools it    durable: false, drained later
    both are down                        Unavailable: the client sees an error, not a final event
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

from apps.chat.turn_lock import renewed
from apps.chat.turn_types import Delta, Timings, TurnLimits, TurnRequest, TurnResult, TurnServices
from apps.chat.waiting import cancel, done, in_time
from core.contracts import (
    AdapterRef,
    FanContext,
    FinishReason,
    Message,
    Passage,
    Retrieval,
    Session,
    Turn,
    Usage,
    Verdict,
)
from core.errors import Conflict, StoreUnavailable, Unavailable
from core.logs import get_logger
from memory.profile_rules import learned
from memory.recall import asks_back, in_own_words
from personas.context_labels import labels_for
from personas.lorebook import lore_passages
from personas.macros import StreamFiller, fill, mask
from personas.prompt import build_prompt

T = TypeVar("T")

# A reply that runs in circles is ended where it stands; it is not an offence.
_JUST_STOP = frozenset({"repetition"})


@dataclass
class _State:
    """What one running turn has found out so far."""

    request: TurnRequest
    turn_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    started: float = field(default_factory=time.perf_counter)
    degraded: list[str] = field(default_factory=list)
    history: list[Message] = field(default_factory=list)
    fan: FanContext | None = None
    passages: list[Passage] = field(default_factory=list)
    recalled: list[str] = field(default_factory=list)
    """What answers the fan's question about themselves, if they ask one."""
    adapter: AdapterRef | None = None
    verdict: Verdict = field(default_factory=Verdict.ok)
    stored: str = ""
    """The reply as it is committed, with macros."""
    shown: str = ""
    """The reply as the client saw it."""
    usage: Usage = field(default_factory=Usage)
    finish_reason: FinishReason = "stop"
    ttft_ms: float | None = None
    guard_ms: float = 0.0
    context_ms: float = 0.0

    @property
    def name(self) -> str:
        known = self.fan.profile.name if self.fan and self.fan.profile else None
        return known or self.request.persona.card.fan_alias

    @property
    def message(self) -> str:
        """The fan's message with their own name taken out."""
        known = self.fan.profile.name if self.fan and self.fan.profile else None
        return mask(self.request.message, known)

    def elapsed_ms(self) -> float:
        return (time.perf_counter() - self.started) * 1000


class ChatTurns:
    """Runs turns. One instance serves all sessions; a session runs one turn at a time."""

    def __init__(self, services: TurnServices, limits: TurnLimits) -> None:
        self._services = services
        self._limits = limits
        self._busy: set[str] = set()
        self._stale: set[str] = set()
        """Sessions whose window in Redis misses a turn, because it was down then: read from PostgreSQL again."""
        self._log = get_logger("turn")

    async def run(self, request: TurnRequest) -> AsyncGenerator[Delta | TurnResult, None]:
        """Yield deltas as they may be shown, then the result.

        Closing the iterator early aborts the engine's request and commits no turn.

        Raises:
            Conflict: The session has a turn in flight.
            Unavailable: Nothing can hold the turn, or the engine or the guard does not answer.
        """
        state = _State(request)
        deadline = asyncio.get_running_loop().time() + self._limits.turn_timeout_s
        async with self._session_lock(state), aclosing(self._deltas(state)) as deltas:
            while (delta := await in_time(anext(deltas, None), deadline)) is not None:
                yield delta
            durable = await in_time(self._commit(state), deadline)
            result = self._result(state, durable)
        self._services.metrics.finished(result, request.persona.id)
        yield result

    async def _deltas(self, state: _State) -> AsyncGenerator[Delta, None]:
        await self._gather(state)
        await self._learn(state)
        await self._recall(state)
        async with aclosing(self._reply(state)) as deltas:
            async for delta in deltas:
                yield delta

    async def _gather(self, state: _State) -> None:
        """Check the input while everything that the prompt needs is fetched."""
        request = state.request
        fan = asyncio.create_task(self._fan(state))
        others = [asyncio.create_task(self._history(state)), asyncio.create_task(self._retrieve(state))]
        try:
            state.verdict = await self._check(request)
            state.guard_ms = state.elapsed_ms()
            if state.verdict.allowed:
                await asyncio.gather(*others)
            await fan  # an alternative answer calls the fan by name, too
        finally:
            await cancel([fan, *others])
        state.context_ms = state.elapsed_ms()
        if request.session and {"redis", "postgres"} <= set(state.degraded):
            raise Unavailable("neither PostgreSQL nor Redis answers: the turn could not be kept")

    async def _check(self, request: TurnRequest) -> Verdict:
        text = f"{request.scenario}\n{request.message}" if request.scenario else request.message
        try:
            async with asyncio.timeout(self._limits.guard_timeout_s):
                return await self._services.check_input(text, request.persona.id)
        except TimeoutError:
            raise Unavailable("the input filter does not answer", "guard") from None

    async def _history(self, state: _State) -> None:
        session = state.request.session
        if session is None:
            state.history = list(state.request.history)
            return
        held = None
        if session.session_id not in self._stale:
            held = await self._or_degrade(state, "redis", self._services.short_term.history(session.session_id), None)
        if held is None:
            read = self._services.long_term.history(session.session_id, self._limits.history_turns)
            stored = await self._or_degrade(state, "postgres", read, None)
            held = stored or []
            if stored is not None and "redis" not in state.degraded:
                restore = self._services.short_term.restore(session.session_id, held)
                if await self._or_degrade(state, "redis", done(restore), False):
                    self._stale.discard(session.session_id)
        state.history = held

    async def _fan(self, state: _State) -> None:
        if fan_id := state.request.fan_id:
            read = self._services.long_term.fan_context(fan_id, state.request.persona.id)
            state.fan = await self._or_degrade(state, "postgres", read, None)

    async def _learn(self, state: _State) -> None:
        """What the message tells of the fan is in the profile before the reply: they may ask for it right away."""
        request, known = state.request, state.fan.profile if state.fan else None
        if request.fan_id is None or not state.verdict.allowed or "postgres" in state.degraded:
            return
        # The rules split words into morphemes, which takes a second the first time.
        if profile := await asyncio.to_thread(learned, known, request.fan_id, request.message):
            state.fan = replace(state.fan or FanContext(), profile=profile)
            await self._or_degrade(state, "postgres", done(self._services.long_term.fill_profile(profile)), False)

    async def _recall(self, state: _State) -> None:
        """When the fan asks for what they told, the lines that answer take the place of what was retrieved."""
        most, fan = self._limits.prompt.recalled_lines, state.fan or FanContext()
        if not most or not state.verdict.allowed or not asks_back(state.message):
            return
        profile = labels_for(state.request.persona.card.language).fan_lines(fan.profile)
        memories = [*reversed(fan.memories), *(p.text for p in state.passages if p.kind == "memory")]
        state.recalled = await self._services.recaller.lines(state.message, profile, memories, state.history, most)
        if state.recalled:
            state.passages = [p for p in state.passages if in_own_words(p.text) in state.recalled]

    async def _retrieve(self, state: _State) -> None:
        request = state.request
        search = self._services.retriever.search(request.message, request.persona.id, request.fan_id)
        bounded = asyncio.wait_for(search, self._limits.retrieval_timeout_s)
        found = await self._or_degrade(state, "qdrant", bounded, Retrieval())
        state.passages = list(found.passages)
        for component in found.degraded:
            self._note_degraded(state, component)

    async def _or_degrade(self, state: _State, component: str, work: Awaitable[T], instead: T) -> T:
        """Await ``work``; when its store is down, note that and go on with ``instead``."""
        try:
            return await work
        except StoreUnavailable as error:
            component = error.param or component
        except TimeoutError:
            pass
        self._note_degraded(state, component)
        return instead

    def _note_degraded(self, state: _State, component: str) -> None:
        if component not in state.degraded:
            state.degraded.append(component)
            self._services.metrics.degraded(component)
            self._log.warning("degraded", missing=component, turn=state.turn_id)

    async def _reply(self, state: _State) -> AsyncGenerator[Delta, None]:
        if not state.verdict.allowed:
            yield self._alternative(state)
            return
        try:
            async with aclosing(self._generate(state)) as deltas:
                async for delta in deltas:
                    yield delta
        except _EngineLost:
            # Nothing was shown yet: the turn can be asked again of another replica.
            self._log.warning("generator lost; asking again", turn=state.turn_id)
            async with aclosing(self._generate(state)) as deltas:
                async for delta in deltas:
                    yield delta

    async def _generate(self, state: _State) -> AsyncGenerator[Delta, None]:
        request, services = state.request, self._services
        fan_key = request.fan_id or (request.session.session_id if request.session else state.turn_id)
        state.adapter = services.adapter_for(request.persona.id, fan_key)
        watch, filler = services.watch(request.persona.id), StreamFiller(state.name)
        stream = services.generator.stream(self._prompt(state), request.sampling, state.adapter)
        try:
            async with aclosing(stream) as chunks:
                async for chunk in chunks:
                    if delta := self._release(state, filler.feed(self._checked(state, watch.feed(chunk.text)))):
                        yield delta
                    if not watch.verdict.allowed:
                        break
                    state.usage = chunk.usage or state.usage
                    state.finish_reason = chunk.finish_reason or state.finish_reason
        except Unavailable as error:
            if state.shown:
                raise
            raise _EngineLost(error.message, "generator") from error
        if delta := self._release(state, filler.feed(self._checked(state, watch.finish())) + filler.finish()):
            yield delta
        if not state.usage.completion_tokens:
            # The reply was stopped before the engine could count it.
            state.usage = Usage(state.usage.prompt_tokens, self._services.count_tokens(state.stored))
        if not watch.verdict.allowed and watch.verdict.category not in _JUST_STOP:
            state.verdict = watch.verdict
            yield self._alternative(state)
        elif not state.shown.strip():
            yield self._nothing_to_say(state)

    def _prompt(self, state: _State) -> list[Message]:
        request = state.request
        card, count_tokens = request.persona.card, self._services.count_tokens
        said = [*state.history, Message("user", state.message)]
        passages = [*lore_passages(card.lorebook, said, count_tokens), *state.passages]
        if request.scenario:
            passages.insert(0, Passage("scenario", request.scenario, "scenario", "scenario", 1.0))
        config = self._limits.prompt
        prompt = build_prompt(
            card, state.history, state.message, state.fan, passages, config, count_tokens, state.recalled
        )
        if config.names == "plain":
            return [Message(m.role, fill(m.content, state.name)) for m in prompt]
        return prompt

    def _checked(self, state: _State, text: str) -> str:
        state.stored += text
        return text

    def _release(self, state: _State, text: str) -> Delta | None:
        if not text:
            return None
        if state.ttft_ms is None:
            state.ttft_ms = state.elapsed_ms()
        state.shown += text
        return Delta(text)

    def _alternative(self, state: _State) -> Delta:
        """The character's own answer in place of what was blocked; follows what was shown already."""
        lines = state.request.persona.card.alternatives
        line = random.choice(lines.get(state.verdict.category or "default") or lines["default"])
        state.finish_reason = "blocked"
        return self._say(state, line)

    def _nothing_to_say(self, state: _State) -> Delta:
        """The engine came back with nothing: say so in character rather than send an empty reply."""
        state.finish_reason = "error"
        self._note_degraded(state, "generator")
        return self._say(state, random.choice(state.request.persona.card.degraded))

    def _say(self, state: _State, line: str) -> Delta:
        glue = " " if state.shown and not state.shown[-1].isspace() else ""
        state.stored += glue + line
        delta = self._release(state, glue + fill(line, state.name))
        assert delta is not None, "a card's lines are not empty"
        return delta

    async def _commit(self, state: _State) -> bool:
        """Make the turn lasting; whether PostgreSQL has it."""
        session = state.request.session
        if session is None:
            return False
        turn = self._turn(state, session)
        durable = await self._or_degrade(state, "postgres", done(self._services.long_term.commit_turn(turn)), False)
        if not durable:
            await self._spool(turn)
        if not turn.blocked:
            pair = [Message("user", turn.user_text), Message("assistant", turn.reply)]
            append = self._services.short_term.append(session.session_id, pair)
            if not await self._or_degrade(state, "redis", done(append), False):
                self._stale.add(session.session_id)
        return durable

    async def _spool(self, turn: Turn) -> None:
        try:
            await self._services.short_term.spool(turn)
        except StoreUnavailable as error:
            raise Unavailable("neither PostgreSQL nor Redis could keep this turn") from error
        self._log.warning("turn spooled", turn=turn.turn_id)

    def _turn(self, state: _State, session: Session) -> Turn:
        return Turn(
            turn_id=state.turn_id,
            session_id=session.session_id,
            persona=session.persona,
            fan_id=session.fan_id,
            user_text=state.message,
            reply=state.stored,
            blocked=not state.verdict.allowed,
            category=state.verdict.category,
            adapter=state.adapter.adapter_id if state.adapter else None,
            usage=state.usage,
        )

    def _result(self, state: _State, durable: bool) -> TurnResult:
        return TurnResult(
            turn_id=state.turn_id,
            reply=state.shown,
            blocked=not state.verdict.allowed,
            category=state.verdict.category,
            degraded=tuple(state.degraded),
            sources=tuple(dict.fromkeys(p.as_source() for p in state.passages if state.verdict.allowed)),
            adapter=state.adapter.adapter_id if state.adapter else None,
            durable=durable,
            usage=state.usage,
            timings=Timings(
                ttft_ms=round(state.ttft_ms, 1) if state.ttft_ms is not None else None,
                total_ms=round(state.elapsed_ms(), 1),
                context_ms=round(state.context_ms, 1),
                guard_ms=round(state.guard_ms, 1),
            ),
            finish_reason=state.finish_reason,
        )

    @asynccontextmanager
    async def _session_lock(self, state: _State) -> AsyncIterator[None]:
        """One turn at a time per session: by Redis over all replicas, by this process alone while Redis is down."""
        session = state.request.session
        if session is None:
            yield
            return
        session_id = session.session_id
        if session_id in self._busy:
            raise Conflict("this session has a turn in flight; wait for its final event", "session_id")
        self._busy.add(session_id)
        try:
            acquire = self._services.short_term.acquire(session_id, state.turn_id)
            if not await self._or_degrade(state, "redis", acquire, True):
                raise Conflict("this session has a turn in flight; wait for its final event", "session_id")
            try:
                async with renewed(self._services.short_term, session_id, state.turn_id):
                    yield
            finally:
                release = self._services.short_term.release(session_id, state.turn_id)
                await asyncio.shield(self._or_degrade(state, "redis", release, None))
        finally:
            self._busy.discard(session_id)


class _EngineLost(Unavailable):
    """The engine failed before anything was shown."""
