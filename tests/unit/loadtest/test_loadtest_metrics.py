import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.client import RequestTrace
from loadtest.metrics import Step, aggregate, compare, percentile, summarise

floats = st.floats(-1e6, 1e6)


def trace(started: float = 0.0, arrivals: tuple[float, ...] = (0.1, 0.2, 0.4), tokens: int = 4) -> RequestTrace:
    return RequestTrace(
        started,
        arrivals[-1] + 0.1 if arrivals else started,
        arrivals,
        50,
        tokens,
        "stop",
        None,
        None,
        (),
        None,
    )


def step(arm: str, number: int, ttft: float, tokens: int = 10) -> Step:
    measured = trace(0.0, (ttft, 0.9), tokens)
    return Step(arm=arm, concurrency=8, round=number, summary=summarise([measured]))


@given(st.lists(floats, min_size=1), st.floats(0, 1))
def test_a_percentile_lies_between_the_extremes(values: list[float], share: float) -> None:
    assert min(values) - 1e-6 <= percentile(values, share) <= max(values) + 1e-6


@given(st.lists(floats, min_size=1), st.floats(0, 1), st.floats(0, 1))
def test_percentiles_do_not_fall_as_the_share_grows(values: list[float], a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert percentile(values, low) <= percentile(values, high) + 1e-6


def test_percentiles_interpolate() -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.5
    assert percentile([1.0, 2.0], 0.99) == pytest.approx(1.99)
    assert math.isnan(percentile([], 0.5))


def test_a_trace_knows_its_times() -> None:
    measured = trace()
    assert measured.ttft_s == pytest.approx(0.1)
    assert measured.gaps_s == pytest.approx((0.1, 0.2))
    assert measured.seconds_per_token == pytest.approx(0.1)
    assert trace(arrivals=()).ttft_s is None


def test_throughput_counts_tokens_over_the_whole_span() -> None:
    summary = summarise([trace(0.0, (0.5, 0.9)), trace(1.0, (1.5, 1.9))])
    assert summary.tokens_per_s == pytest.approx(8 / 2.0)
    assert summary.requests_per_s == pytest.approx(1.0)
    assert summary.output_tokens_mean == 4
    assert summary.prompt_tokens_mean == 50


def test_failed_requests_are_counted_and_left_out() -> None:
    slow_failure = replace(trace(0.0, (5.0, 6.0)), error="HTTP 503")
    summary = summarise([trace(), slow_failure])
    assert (summary.requests, summary.errors) == (2, 1)
    assert summary.ttft_p99 == pytest.approx(100)


def test_no_success_gives_no_figures_but_no_exception() -> None:
    summary = summarise([replace(trace(arrivals=()), error="timed out")])
    assert math.isnan(summary.ttft_p50)
    assert math.isnan(summary.output_tokens_mean)
    assert summarise([]).requests == 0


def test_rounds_become_median_and_spread() -> None:
    steps = [step("graph", n, ttft) for n, ttft in enumerate([0.3, 0.1, 0.2], 1)]
    [figures] = aggregate(steps)
    assert figures.rounds == 3
    spread = (figures.low.ttft_p50, figures.median.ttft_p50, figures.high.ttft_p50)
    assert spread == pytest.approx((100, 200, 300))


def test_the_comparison_pairs_rounds() -> None:
    steps = [
        step("graph", 1, 0.30, 5),
        step("bare", 1, 0.10),
        step("graph", 2, 0.35, 5),
        step("bare", 2, 0.20),
    ]
    [compared] = compare(steps, "graph", "bare")
    assert compared.ttft_added_ms == pytest.approx(325 - 150)
    assert (compared.ttft_added_low_ms, compared.ttft_added_high_ms) == pytest.approx((150, 200))
    assert compared.tokens_ratio == pytest.approx(0.5)


def test_a_round_that_one_side_did_not_finish_does_not_count() -> None:
    steps = [step("graph", 1, 0.3), step("bare", 1, 0.1), step("graph", 2, 9.0)]
    [compared] = compare(steps, "graph", "bare")
    assert compared.ttft_added_ms == pytest.approx(200)
    assert compare(steps, "graph", "bare-base") == []
