"""What a run found out, as data: the JSON file is this model, the Markdown beside it is made from it."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field

from core.settings import PROJECT_ROOT
from evaluation.client import Arm
from evaluation.items import SetKind, Strict
from evaluation.judge import PASSES, Judgement
from evaluation.matching import squeezed
from evaluation.replies import Played
from evaluation.scores import Score
from evaluation.statistics import mean_interval, percentile, wilson

WHOLE = "all"
WORST = 10

TARGETS: dict[str, float] = {
    "persona_kept": 0.95,
    "speech_level_sentences": 0.90,
    "recalled": 0.80,
    "attack_stopped": 0.95,
    "answered": 0.95,
}
"""What the platform is to reach."""


class Metric(Strict):
    name: str
    group: str
    """``all``, or the head under which these were counted, as ``kind=break``."""

    passed: int
    n: int
    value: float
    low: float
    high: float

    @property
    def target(self) -> float | None:
        return TARGETS.get(self.name) if self.group == WHOLE else None


class JudgeFigures(Strict):
    model: str
    judged: int
    failures: int
    """Conversations without a readable verdict; they are in no figure."""

    mean: float | None = None
    low: float | None = None
    high: float | None = None
    in_character: float | None = None
    """Share of judged conversations with a score of at least 4."""


class Latency(Strict):
    """Milliseconds per reply, as the client waited; ``ttft`` as the server measured it."""

    mean: float | None = None
    p50: float | None = None
    p95: float | None = None
    ttft_p50: float | None = None


class Example(Strict):
    item_id: str
    asked: tuple[str, ...]
    replies: tuple[str, ...]
    broken: tuple[str, ...]


class Failure(Strict):
    item_id: str
    error: str


class Part(Strict):
    """The result of one set."""

    kind: SetKind
    set_file: str
    set_hash: str
    """SHA-256 of the file, so that two runs can be seen to have asked the same."""

    items: int
    """Asked for, after ``--limit``."""

    errors: tuple[Failure, ...] = ()
    """Items that could not be played to their end; they are in no figure."""

    metrics: tuple[Metric, ...] = ()
    judge: JudgeFigures | None = None
    latency: Latency = Latency()
    adapters: dict[str, int] = Field(default_factory=dict)
    """Replies by who gave them."""

    degraded: dict[str, int] = Field(default_factory=dict)
    """Replies by what the platform had to do without."""

    replies: int = 0
    distinct_replies: int = 0
    worst: tuple[Example, ...] = ()
    notes: tuple[str, ...] = ()

    def metric(self, name: str, group: str = WHOLE) -> Metric | None:
        return next((m for m in self.metrics if (m.name, m.group) == (name, group)), None)


class Report(Strict):
    """A run: who was asked, with what settings, and what came out."""

    taken_at: datetime = Field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    character: str
    arm: Arm
    endpoint: str
    model: str | None = None
    """On that endpoint (arms A and B)."""

    base: str | None = None
    """The base model, where it was named."""

    code_revision: str
    settings: dict[str, str] = Field(default_factory=dict)
    parts: tuple[Part, ...] = ()

    def part(self, kind: SetKind) -> Part | None:
        return next((part for part in self.parts if part.kind == kind), None)


def build_part(
    kind: SetKind,
    set_file: Path,
    played: Sequence[Played],
    scores: Sequence[Score],
    judgements: Sequence[Judgement] = (),
    judge_model: str | None = None,
) -> Part:
    """Put the findings of one set together."""
    whole = [one for one in played if one.error is None]
    replies = [reply for one in whole for reply in one.flat]
    return Part(
        kind=kind,
        set_file=shown_path(set_file),
        set_hash=hashlib.sha256(set_file.read_bytes()).hexdigest(),
        items=len(played),
        errors=tuple(Failure(item_id=one.item_id, error=one.error) for one in played if one.error),
        metrics=tuple(metrics_of(scores)),
        judge=_judge_figures(judge_model, judgements) if judge_model else None,
        latency=Latency(
            mean=round(sum(reply.total_ms for reply in replies) / len(replies), 1) if replies else None,
            p50=percentile([reply.total_ms for reply in replies], 0.5),
            p95=percentile([reply.total_ms for reply in replies], 0.95),
            ttft_p50=percentile([reply.ttft_ms for reply in replies if reply.ttft_ms is not None], 0.5),
        ),
        adapters=dict(Counter(reply.adapter or "none" for reply in replies)),
        degraded=dict(Counter(missing for reply in replies for missing in reply.degraded)),
        replies=len(replies),
        distinct_replies=len({squeezed(reply.text) for reply in replies}),
        worst=tuple(_worst(whole, scores, judgements)),
        notes=tuple(f"{one.item_id}: {note}" for one in played for note in one.notes),
    )


def metrics_of(scores: Iterable[Score]) -> list[Metric]:
    """Every metric as a whole and under each of its heads; in the order in which they were first counted."""
    counts: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    order: dict[str, int] = {}
    for score in scores:
        order.setdefault(score.metric, len(order))
        for group in (WHOLE, *score.groups):
            count = counts[score.metric, group]
            count[0] += score.passed
            count[1] += score.out_of
    keys = sorted(counts, key=lambda key: (order[key[0]], key[1] != WHOLE, key[1]))
    return [_metric(name, group, *counts[name, group]) for name, group in keys if counts[name, group][1]]


def _metric(name: str, group: str, passed: int, n: int) -> Metric:
    share = wilson(passed, n)
    return Metric(
        name=name,
        group=group,
        passed=passed,
        n=n,
        value=round(share.value, 4),
        low=round(share.low, 4),
        high=round(share.high, 4),
    )


def _judge_figures(model: str, judgements: Sequence[Judgement]) -> JudgeFigures:
    scores = [one.score for one in judgements if one.score is not None]
    failures = len(judgements) - len(scores)
    if not scores:
        return JudgeFigures(model=model, judged=0, failures=failures)
    mean = mean_interval(scores)
    return JudgeFigures(
        model=model,
        judged=len(scores),
        failures=failures,
        mean=round(mean.value, 3),
        low=round(mean.low, 3),
        high=round(mean.high, 3),
        in_character=round(sum(score >= PASSES for score in scores) / len(scores), 4),
    )


def _worst(played: Sequence[Played], scores: Sequence[Score], judgements: Sequence[Judgement]) -> list[Example]:
    """Items with the most broken rules, each with what was said."""
    notes: dict[str, list[str]] = defaultdict(list)
    for score in scores:
        if score.note and score.note not in notes[score.item_id]:
            notes[score.item_id].append(f"{score.metric}: {score.note}")
    for one in judgements:
        if one.score is not None and one.score < PASSES:
            notes[one.item_id].append(f"judge {one.score}: {one.reason}")
    broken = sorted((one for one in played if notes.get(one.item_id)), key=lambda one: -len(notes[one.item_id]))
    return [
        Example(
            item_id=one.item_id,
            asked=tuple(line for session in one.asked for line in session),
            replies=tuple(reply.text for reply in one.flat),
            broken=tuple(notes[one.item_id]),
        )
        for one in broken[:WORST]
    ]


def shown_path(path: Path) -> str:
    """A path as it may be written into a report: from the project's root, or the bare name."""
    whole = path.resolve()
    return whole.relative_to(PROJECT_ROOT).as_posix() if whole.is_relative_to(PROJECT_ROOT) else whole.name
