"""The rollout table as a replica sees it: read again every second, kept while PostgreSQL is down."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Protocol

from adapters.registry import AdapterRegistry, Move
from adapters.rollout import AdapterState, RolloutTable
from adapters.store import AdapterStore
from core.contracts import AdapterRef
from core.errors import ConfigurationError, NotFound, StoreUnavailable
from core.logs import get_logger


class RolloutMoves(Protocol):
    """What an administrator does with adapters."""

    @property
    def table(self) -> RolloutTable: ...

    async def canary(self, persona: str, version: str, share: int) -> RolloutTable: ...

    async def promote(self, persona: str, version: str) -> RolloutTable: ...

    async def rollback(self, persona: str) -> RolloutTable: ...

    async def retire(self, persona: str, version: str) -> RolloutTable: ...


class Rollouts:
    """Resolves a character and a fan to an adapter, from memory."""

    def __init__(self, registry: AdapterRegistry, store: AdapterStore, refresh_s: float) -> None:
        self._registry = registry
        self._store = store
        self._refresh_s = refresh_s
        self._table = RolloutTable()
        self._task: asyncio.Task[None] | None = None
        self._log = get_logger("rollouts")

    async def start(self) -> None:
        """Register what is published, read the table and keep reading it."""
        try:
            await self.refresh()
        except StoreUnavailable:
            self._table = _newest_published(self._store)
            self._log.warning("PostgreSQL is down: the newest published adapters are live until it is back")
        self._task = asyncio.create_task(self._keep_reading())

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()

    @property
    def table(self) -> RolloutTable:
        return self._table

    def adapter_for(self, persona: str, fan_key: str) -> AdapterRef | None:
        """The adapter that answers this fan; ``None`` leaves it to the prompted base model."""
        version = self._table.resolve(persona, fan_key)
        if version is None:
            return None
        try:
            return self._store.ref(f"{persona}/{version}")
        except NotFound:
            self._log.error("adapter files are missing", persona=persona, version=version)
            return None

    async def canary(self, persona: str, version: str, share: int) -> RolloutTable:
        move = partial(RolloutTable.canary, persona=persona, version=version, share=share)
        return await self._apply(persona, version, f"canary {share}%", move)

    async def promote(self, persona: str, version: str) -> RolloutTable:
        move = partial(RolloutTable.promote, persona=persona, version=version)
        return await self._apply(persona, version, "promoted", move)

    async def rollback(self, persona: str) -> RolloutTable:
        live = next((v.version for v in self._table.versions(persona) if v.state is AdapterState.LIVE), "none")
        return await self._apply(persona, live, "rolled back", partial(RolloutTable.rollback, persona=persona))

    async def retire(self, persona: str, version: str) -> RolloutTable:
        move = partial(RolloutTable.retire, persona=persona, version=version)
        return await self._apply(persona, version, "retired", move)

    async def _apply(self, persona: str, version: str, event: str, move: Move) -> RolloutTable:
        self._table = await self._registry.apply(persona, version, event, move)
        return self._table

    async def refresh(self) -> None:
        """Read the table again; what was published since joins it as a candidate."""
        table = await self._registry.table()
        known = {(v.persona, v.version) for v in table.versions()}
        if self._store.published() - known:
            table = await self._register_published(table)
        self._table = table

    async def _keep_reading(self) -> None:
        while True:
            await asyncio.sleep(self._refresh_s)
            try:
                await self.refresh()
            except StoreUnavailable:
                continue  # what was read last stays in force
            except ConfigurationError as error:
                self._log.error("a published adapter cannot be read", reason=str(error))

    async def _register_published(self, known: RolloutTable) -> RolloutTable:
        """Add versions that the table does not know; a character without any live one gets its newest."""
        for manifest in self._store.manifests():
            persona, version = manifest.persona, manifest.version
            if any(v.version == version for v in known.versions(persona)):
                continue
            known = await self._registry.apply(
                persona, version, "published", partial(RolloutTable.add, persona=persona, version=version)
            )
        for persona in {v.persona for v in known.versions()}:
            versions = known.versions(persona)
            if all(v.state is AdapterState.CANDIDATE for v in versions):
                newest = versions[-1].version
                move = partial(_promote_first, persona=persona, version=newest)
                known = await self._registry.apply(persona, newest, "promoted", move)
        return known


def _promote_first(table: RolloutTable, persona: str, version: str) -> RolloutTable:
    """Promote unless another replica was quicker."""
    if any(v.state is not AdapterState.CANDIDATE for v in table.versions(persona)):
        return table
    return table.promote(persona, version)


def _newest_published(store: AdapterStore) -> RolloutTable:
    table, newest = RolloutTable(), {}
    for manifest in store.manifests():
        newest[manifest.persona] = manifest.version
    for persona, version in newest.items():
        table = table.add(persona, version).promote(persona, version)
    return table
