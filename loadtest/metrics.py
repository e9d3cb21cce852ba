"""From traces to figures: pure functions, no I/O."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, median

from pydantic import BaseModel, ConfigDict

from loadtest.client import RequestTrace

NAN = math.nan
"""A figure that could not be taken; ``null`` in JSON."""


class FrozenModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Summary(FrozenModel):
    """One arm under one load, once. Times are milliseconds, over the requests that succeeded."""

    requests: float
    errors: float
    blocked: float
    """Replies that a filter replaced: they cost no generation, so they must stay rare in a comparison."""

    ttft_p50: float
    ttft_p95: float
    ttft_p99: float
    itl_p50: float
    """Gap between two events with text; events may carry several tokens."""

    itl_p99: float
    tpot_p50: float
    """Time per output token after the first, mean of each request."""

    tokens_per_s: float
    requests_per_s: float
    output_tokens_mean: float
    prompt_tokens_mean: float


class ArmFigures(FrozenModel):
    """An arm under one load over all rounds, figure by figure."""

    arm: str
    concurrency: int
    rounds: int
    median: Summary
    low: Summary
    high: Summary


class Step(FrozenModel):
    """One arm, one load, one round."""

    arm: str
    concurrency: int
    round: int
    summary: Summary


class Comparison(FrozenModel):
    """The graph beside a bare arm under one load: of the medians, then over the rounds' pairs."""

    bare: str
    concurrency: int
    ttft_added_ms: float
    ttft_added_low_ms: float
    ttft_added_high_ms: float
    tokens_ratio: float
    tokens_ratio_low: float
    tokens_ratio_high: float


def percentile(values: Sequence[float], share: float) -> float:
    """The ``share`` quantile (0 to 1) with linear interpolation between neighbours; NaN for no values."""
    if not values:
        return NAN
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def summarise(traces: Sequence[RequestTrace]) -> Summary:
    """Figures of one step; its wall time runs from the first request's start to the last one's end."""
    good = [trace for trace in traces if trace.ok]
    wall = max(t.ended for t in traces) - min(t.started for t in traces) if traces else 0.0
    ttft = [t.ttft_s * 1000 for t in good if t.ttft_s is not None]
    gaps = [gap * 1000 for t in good for gap in t.gaps_s]
    per_token = [t.seconds_per_token * 1000 for t in good if t.seconds_per_token is not None]
    return Summary(
        requests=len(traces),
        errors=len(traces) - len(good),
        blocked=sum(t.finish == "content_filter" for t in good),
        ttft_p50=percentile(ttft, 0.50),
        ttft_p95=percentile(ttft, 0.95),
        ttft_p99=percentile(ttft, 0.99),
        itl_p50=percentile(gaps, 0.50),
        itl_p99=percentile(gaps, 0.99),
        tpot_p50=percentile(per_token, 0.50),
        tokens_per_s=sum(t.output_tokens for t in good) / wall if wall else NAN,
        requests_per_s=len(good) / wall if wall else NAN,
        output_tokens_mean=fmean(t.output_tokens for t in good) if good else NAN,
        prompt_tokens_mean=fmean(t.prompt_tokens for t in good) if good else NAN,
    )


def aggregate(steps: Iterable[Step]) -> list[ArmFigures]:
    """Median and spread over the rounds, for each load and arm in the order of their first step."""
    groups: dict[tuple[int, str], list[Summary]] = {}
    for step in steps:
        groups.setdefault((step.concurrency, step.arm), []).append(step.summary)
    return [
        ArmFigures(
            arm=arm,
            concurrency=concurrency,
            rounds=len(summaries),
            median=_figure_by_figure(summaries, median),
            low=_figure_by_figure(summaries, min),
            high=_figure_by_figure(summaries, max),
        )
        for (concurrency, arm), summaries in groups.items()
    ]


def _figure_by_figure(summaries: Sequence[Summary], combine: Callable[[list[float]], float]) -> Summary:
    def combined(name: str) -> float:
        known = [value for s in summaries if not math.isnan(value := getattr(s, name))]
        return combine(known) if known else NAN

    return Summary(**{name: combined(name) for name in Summary.model_fields})


def compare(steps: Sequence[Step], graph: str, bare: str) -> list[Comparison]:
    """The graph's cost per load. Rounds count in pairs: neighbours in time share the machine's mood."""
    by_key = {(step.arm, step.concurrency, step.round): step.summary for step in steps}
    loads = dict.fromkeys(step.concurrency for step in steps)
    compared = []
    for load in loads:
        rounds = [r for (arm, c, r) in by_key if arm == graph and c == load and (bare, load, r) in by_key]
        pairs = [(by_key[graph, load, r], by_key[bare, load, r]) for r in rounds]
        if pairs:
            compared.append(_comparison(bare, load, pairs))
    return compared


def _comparison(bare: str, load: int, pairs: Sequence[tuple[Summary, Summary]]) -> Comparison:
    ours, theirs = (_figure_by_figure(side, median) for side in zip(*pairs, strict=True))
    added = [g.ttft_p50 - b.ttft_p50 for g, b in pairs]
    ratios = [_ratio(g.tokens_per_s, b.tokens_per_s) for g, b in pairs]
    return Comparison(
        bare=bare,
        concurrency=load,
        ttft_added_ms=ours.ttft_p50 - theirs.ttft_p50,
        ttft_added_low_ms=min(added),
        ttft_added_high_ms=max(added),
        tokens_ratio=_ratio(ours.tokens_per_s, theirs.tokens_per_s),
        tokens_ratio_low=min(ratios),
        tokens_ratio_high=max(ratios),
    )


def _ratio(ours: float, theirs: float) -> float:
    return ours / theirs if theirs else NAN
