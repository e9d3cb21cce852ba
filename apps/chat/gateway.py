"""The Gateway deployment: wires one replica's services and serves the HTTP application."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any

from fastapi import FastAPI

from apps.chat.args import ChatArgs
from apps.chat.services import GatewayServices


class Gateway:
    """Ingress of the graph. Ray calls ``__serve_build_asgi_app__`` once the constructor is through."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, args: ChatArgs, guard: Any, embedder: Any, retriever: Any, generator: Any, writer: Any
    ) -> None:
        self._writer = writer  # held so that the handle, and with it the writer, belongs to the graph
        self._services = await wire(args, guard, embedder, retriever, generator)

    async def __serve_build_asgi_app__(self) -> FastAPI:
        from apps.chat.http_app import create_http_app

        return create_http_app(self._services)


async def wire(args: ChatArgs, guard: Any, embedder: Any, retriever: Any, generator: Any) -> GatewayServices:
    """Connect stores and handles to the services behind the routes."""
    from adapters.registry import AdapterRegistry
    from adapters.store import AdapterStore
    from apps.chat.generator import LlmServerGenerator
    from apps.chat.handles import HandleGuard, HandleReranker, HandleRetriever
    from apps.chat.metrics import RayTurnMetrics
    from apps.chat.rate_limit import NoLimit, RedisRateLimit
    from apps.chat.rollouts import Rollouts
    from apps.chat.sessions import Sessions
    from apps.chat.token_counter import token_counter
    from apps.chat.turn import ChatTurns
    from apps.chat.turn_types import TurnLimits, TurnServices
    from apps.chat.uploads import DocumentUploads
    from core.logs import setup_logging
    from core.settings import get_settings
    from memory.api_keys import ApiKeys
    from memory.database import Database
    from memory.documents_store import DocumentStore
    from memory.endpoints import endpoints
    from memory.erasure import erase_fan, erase_memory
    from memory.long_term import PostgresMemory
    from memory.recaller import Recaller
    from memory.short_term import RedisMemory, ShortTermConfig
    from personas.loader import PersonaLibrary
    from safety.guard import PolicyGuard

    settings = get_settings()
    setup_logging(settings)
    addresses = endpoints(settings)
    database = Database(addresses.database_url)
    long_term = PostgresMemory(database)
    idle = timedelta(minutes=args.gateway.session_idle_minutes)
    short_term = RedisMemory(
        addresses.redis_url,
        ShortTermConfig(turns=args.gateway.history_turns, ttl_s=idle.total_seconds()),
    )
    library = PersonaLibrary(settings.resolved(settings.cards_dir))
    search = HandleRetriever(retriever)
    check_input = HandleGuard(guard)
    # The window over a reply runs here, beside the stream: a remote call per token would cost more than it checks.
    watcher = PolicyGuard(output_config=args.guard.output)
    store = AdapterStore(settings.adapter_roots)
    rollouts = Rollouts(AdapterRegistry(addresses.database_url), store, args.gateway.rollout_refresh_s)
    await rollouts.start()
    turns = ChatTurns(
        TurnServices(
            check_input=check_input,
            watch=watcher.watch,
            retriever=search,
            generator=LlmServerGenerator(generator),
            short_term=short_term,
            long_term=long_term,
            adapter_for=rollouts.adapter_for,
            count_tokens=token_counter(settings.model_path(args.generator.model)),
            metrics=RayTurnMetrics(),
            recaller=Recaller(HandleReranker(embedder) if args.embedder.reranker else None),
        ),
        TurnLimits(
            prompt=args.prompt,
            history_turns=args.gateway.history_turns,
            retrieval_timeout_s=args.retriever.timeout_s,
            guard_timeout_s=args.guard.timeout_s,
            turn_timeout_s=args.gateway.turn_timeout_s,
        ),
    )
    per_minute = args.gateway.requests_per_minute

    async def erase(fan_id: str) -> bool:
        known = await long_term.get_profile(fan_id) is not None
        return bool(await erase_fan(fan_id, long_term, short_term, search)) or known

    async def health() -> dict[str, str]:
        probes = {
            "postgres": long_term.ping(),
            "redis": short_term.ping(),
            "qdrant": search.ping(),
            "guard": check_input("안녕", next(iter(library)).id),
            "generator": generator.check_health.remote(),
        }
        answers = await asyncio.gather(*(_answers(probe) for probe in probes.values()))
        return dict(zip(probes, answers, strict=True))

    return GatewayServices(
        args=args.gateway,
        library=library,
        sessions=Sessions(short_term, long_term, idle),
        turns=turns,
        check_input=check_input,
        long_term=long_term,
        erase_fan=erase,
        delete_memory=lambda fan_id, memory_id: erase_memory(fan_id, memory_id, long_term, search),
        uploads=DocumentUploads(DocumentStore(database), search, library),
        keys=ApiKeys(database),
        rollouts=rollouts,
        rate_limit=RedisRateLimit(addresses.redis_url, per_minute) if per_minute else NoLimit(),
        health=health,
    )


async def _answers(probe: Awaitable[object]) -> str:
    """``ok`` or ``down``: a probe that fails in any way is a component that is down."""
    try:
        async with asyncio.timeout(3):
            await probe
    except Exception:  # the answer of a health check, whatever went wrong
        return "down"
    return "ok"
