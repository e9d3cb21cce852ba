"""Which version answers whom: the states of a character's adapters and the moves between them.

    candidate ──canary(p %)──▶ canary ──promote──▶ live ──(replaced)──▶ retired
        └───────────promote──────────────────────▶ live ◀──rollback───── retired (the one live before)

Pure: no store, no clock. ``registry`` keeps the result in PostgreSQL.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from core.errors import Conflict, NotFound


class AdapterState(StrEnum):
    CANDIDATE = "candidate"
    CANARY = "canary"
    LIVE = "live"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class AdapterVersion:
    """One version's place; ``share`` is the canary's percentage, ``previous_live`` serves rollback."""

    persona: str
    version: str
    state: AdapterState = AdapterState.CANDIDATE
    share: int = 0
    previous_live: str | None = None


def fan_bucket(persona: str, fan_key: str) -> int:
    """0–99, the same for a fan and character on every replica, so that a fan stays on one side."""
    digest = hashlib.sha256(f"{persona}\x00{fan_key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % 100


class RolloutTable:
    """All versions' states; moves return a new table."""

    def __init__(self, versions: Iterable[AdapterVersion] = ()) -> None:
        self._versions = {(v.persona, v.version): v for v in versions}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RolloutTable) and self._versions == other._versions

    __hash__ = None  # type: ignore[assignment]  # a table is compared, never a key

    def versions(self, persona: str | None = None) -> list[AdapterVersion]:
        return [v for v in self._versions.values() if persona in (None, v.persona)]

    def resolve(self, persona: str, fan_key: str) -> str | None:
        """The version that answers this fan; ``None`` when the character has no live adapter."""
        canary = self._in_state(persona, AdapterState.CANARY)
        if canary and fan_bucket(persona, fan_key) < canary.share:
            return canary.version
        live = self._in_state(persona, AdapterState.LIVE)
        return live.version if live else None

    def add(self, persona: str, version: str) -> RolloutTable:
        """Register a candidate; one that is known already keeps its state."""
        if (persona, version) in self._versions:
            return self
        return self._with(AdapterVersion(persona, version))

    def canary(self, persona: str, version: str, share: int) -> RolloutTable:
        """Give a candidate (or the running canary) ``share`` percent of the fans."""
        chosen = self._get(persona, version)
        if not 1 <= share <= 99:
            raise Conflict(f"a canary's share is 1 to 99 percent, not {share}", "share")
        if chosen.state not in (AdapterState.CANDIDATE, AdapterState.CANARY):
            raise Conflict(f"{persona}/{version} is {chosen.state}: only a candidate becomes a canary")
        other = self._in_state(persona, AdapterState.CANARY)
        if other and other.version != version:
            raise Conflict(f"{persona}/{other.version} is the canary already; promote or retire it first")
        return self._with(replace(chosen, state=AdapterState.CANARY, share=share))

    def promote(self, persona: str, version: str) -> RolloutTable:
        """Make a candidate or canary live; the one live before is retired and remembered."""
        chosen = self._get(persona, version)
        if chosen.state not in (AdapterState.CANDIDATE, AdapterState.CANARY):
            raise Conflict(f"{persona}/{version} is {chosen.state}: only a candidate or canary is promoted")
        return self._make_live(chosen)

    def rollback(self, persona: str) -> RolloutTable:
        """Go back to the version that was live before; what was live is retired, and so is a canary."""
        live = self._in_state(persona, AdapterState.LIVE)
        if live is None or live.previous_live is None:
            raise Conflict(f"'{persona}' has no earlier live adapter to go back to")
        before = self._get(persona, live.previous_live)
        table = self._with(replace(live, state=AdapterState.RETIRED, share=0))
        if canary := self._in_state(persona, AdapterState.CANARY):
            table = table._with(replace(canary, state=AdapterState.RETIRED, share=0))
        return table._with(replace(before, state=AdapterState.LIVE, share=0))

    def retire(self, persona: str, version: str) -> RolloutTable:
        """Take a candidate or canary out of use; the live one is only replaced or rolled back."""
        chosen = self._get(persona, version)
        if chosen.state is AdapterState.LIVE:
            raise Conflict(f"{persona}/{version} is live: promote another or roll back")
        return self._with(replace(chosen, state=AdapterState.RETIRED, share=0))

    def _make_live(self, chosen: AdapterVersion) -> RolloutTable:
        live = self._in_state(chosen.persona, AdapterState.LIVE)
        table = self._with(replace(live, state=AdapterState.RETIRED, share=0)) if live else self
        previous = live.version if live else None
        return table._with(replace(chosen, state=AdapterState.LIVE, share=0, previous_live=previous))

    def _in_state(self, persona: str, state: AdapterState) -> AdapterVersion | None:
        return next((v for v in self.versions(persona) if v.state is state), None)

    def _get(self, persona: str, version: str) -> AdapterVersion:
        try:
            return self._versions[persona, version]
        except KeyError:
            raise NotFound(f"no adapter version {persona}/{version}", "version") from None

    def _with(self, version: AdapterVersion) -> RolloutTable:
        return RolloutTable([*(self._versions | {(version.persona, version.version): version}).values()])
