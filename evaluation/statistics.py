"""Shares with their uncertainty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    value: float
    low: float
    high: float


def wilson(passed: int, n: int) -> Interval:
    """A share and its 95 % Wilson interval; ``n`` is at least 1."""
    from scipy.stats import binomtest

    bounds = binomtest(passed, n).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(passed / n, float(bounds.low), float(bounds.high))


def mean_interval(values: Sequence[float]) -> Interval:
    """A mean and its 95 % interval (Student); of a single value the interval is the value."""
    from scipy.stats import t

    n = len(values)
    mean = math.fsum(values) / n
    if n < 2:
        return Interval(mean, mean, mean)
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    half = float(t.ppf((1 + CONFIDENCE) / 2, n - 1)) * math.sqrt(variance / n)
    return Interval(mean, mean - half, mean + half)


def percentile(values: Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile; none without values."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
