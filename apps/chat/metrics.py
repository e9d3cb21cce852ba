"""Counters and histograms of the chat turn, exported by Ray on its Prometheus port."""

from __future__ import annotations

from ray.util.metrics import Counter, Histogram

from apps.chat.turn_types import TurnResult

_SECONDS = [0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0]


class RayTurnMetrics:
    """``TurnMetrics`` over Ray's metrics agent."""

    def __init__(self) -> None:
        labels = ("persona",)
        self._turns = Counter("artistmind_turns", "Finished turns.", tag_keys=("persona", "outcome"))
        self._blocked = Counter("artistmind_blocked", "Blocked turns.", tag_keys=("persona", "category"))
        self._degraded = Counter("artistmind_degraded", "Turns without a component.", tag_keys=("component",))
        self._tokens = Counter("artistmind_completion_tokens", "Tokens generated.", tag_keys=labels)
        self._ttft = Histogram("artistmind_ttft_seconds", "To the first shown text.", _SECONDS, labels)
        self._total = Histogram("artistmind_turn_seconds", "To the final event.", _SECONDS, labels)

    def degraded(self, component: str) -> None:
        self._degraded.inc(tags={"component": component})

    def finished(self, result: TurnResult, persona: str) -> None:
        labels = {"persona": persona}
        self._turns.inc(tags=labels | {"outcome": result.finish_reason})
        if result.blocked:
            self._blocked.inc(tags=labels | {"category": result.category or "default"})
        if result.usage.completion_tokens:
            self._tokens.inc(result.usage.completion_tokens, labels)
        if result.timings.ttft_ms is not None:
            self._ttft.observe(result.timings.ttft_ms / 1000, labels)
        self._total.observe(result.timings.total_ms / 1000, labels)
