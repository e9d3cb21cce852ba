"""The report of a run: a table for the terminal, JSON for machines, Markdown for people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean

from pydantic import Field
from rich import box
from rich.console import Console
from rich.table import Table

from loadtest.bare_server import EngineSettings
from loadtest.config import BenchConfig
from loadtest.graph_probe import GraphInfo
from loadtest.machine import EngineThreads, Machine, bindings_differ
from loadtest.metrics import ArmFigures, Comparison, FrozenModel, Step, Summary, aggregate, compare
from loadtest.runner import BARE, BASE, CHAT_WORKERS, GRAPH, Measured

_LATENCY = {
    "TTFT p50": "ttft_p50",
    "TTFT p95": "ttft_p95",
    "TTFT p99": "ttft_p99",
    "ITL p50": "itl_p50",
    "ITL p99": "itl_p99",
    "TPOT": "tpot_p50",
}
_THROUGHPUT = {
    "tokens/s": "tokens_per_s",
    "requests/s": "requests_per_s",
    "out tokens": "output_tokens_mean",
    "in tokens": "prompt_tokens_mean",
    "requests": "requests",
    "errors": "errors",
}
_WITH_SPREAD = frozenset({"ttft_p50", "tokens_per_s"})
_WHOLE = frozenset({"requests", "errors"})


class BenchReport(FrozenModel):
    """Everything a run found out, and everything it was run with."""

    taken_at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    machine: Machine
    config: BenchConfig
    engine: EngineSettings
    graph: GraphInfo
    engines: tuple[EngineThreads, ...]
    """Engine processes and their CPUs, while both servers were up."""

    steps: tuple[Step, ...]
    figures: tuple[ArmFigures, ...]
    comparisons: tuple[Comparison, ...]
    chat: Summary | None = None
    warnings: tuple[str, ...] = ()
    """What a reader must know before believing a figure."""

    @property
    def failed_requests(self) -> int:
        chat_errors = self.chat.errors if self.chat else 0
        return int(sum(step.summary.errors for step in self.steps) + chat_errors)


def build_report(
    config: BenchConfig,
    engine: EngineSettings,
    graph: GraphInfo,
    machine: Machine,
    engines: list[EngineThreads],
    measured: Measured,
) -> BenchReport:
    """Put a run's findings together."""
    steps = measured.steps
    return BenchReport(
        machine=machine,
        config=config,
        engine=engine,
        graph=graph,
        engines=tuple(engines),
        steps=tuple(steps),
        figures=tuple(aggregate(steps)),
        comparisons=tuple(compare(steps, GRAPH, BARE) + compare(steps, GRAPH, BASE)),
        chat=measured.chat,
        warnings=tuple(_warnings(graph, machine, engines, measured)),
    )


def _warnings(graph: GraphInfo, machine: Machine, engines: list[EngineThreads], measured: Measured) -> list[str]:
    degraded = sorted({*graph.degraded, *measured.degraded})
    blocked = int(sum(step.summary.blocked for step in measured.steps))
    other = sorted(measured.adapters - {graph.adapter})
    facts = {
        f"the machine was busy before the run (load {machine.load_average:.2f})": machine.load_average > 0.5,
        f"requests failed; the first: {measured.first_error}": measured.first_error is not None,
        "the time limit cut the run short": measured.cut_short,
        f"the graph ran without {', '.join(degraded)}": bool(degraded),
        f"{blocked} replies came from the filter instead of the model": blocked > 0,
        f"other adapters answered as well: {', '.join(other)}": bool(other),
        "no adapter is rolled out: both sides measured the base model": graph.adapter is None,
        "the engines were bound to different CPUs: set --omp-bind": bindings_differ(engines),
        f"{measured.not_durable} turns of /chat were not durable": measured.not_durable > 0,
    }
    return [fact for fact, holds in facts.items() if holds] + _length_notes(measured.steps)


def _length_notes(steps: Sequence[Step]) -> list[str]:
    """Work that was not the same on both sides."""
    means = {
        arm: (fmean(s.prompt_tokens_mean for s in of_arm), fmean(s.output_tokens_mean for s in of_arm))
        for arm in (GRAPH, BARE)
        if (of_arm := [step.summary for step in steps if step.arm == arm and step.summary.requests_per_s > 0])
    }
    if len(means) < 2:
        return []
    (graph_in, graph_out), (bare_in, bare_out) = means[GRAPH], means[BARE]
    longer = f"the graph's prompts differ by {graph_in - bare_in:+.0f} tokens on average (retrieved context)"
    uneven = f"replies differ in length: {graph_out:.1f} tokens from the graph, {bare_out:.1f} from bare vLLM"
    return [longer] * (abs(graph_in - bare_in) >= 1) + [uneven] * (abs(graph_out - bare_out) > 0.1 * bare_out)


def print_report(report: BenchReport, console: Console) -> None:
    """Tables on the terminal, narrow enough for 80 columns."""
    console.print(report.machine.line(), highlight=False)
    console.print(_table("milliseconds", _LATENCY, report.figures))
    console.print(_table("per second and per request", _THROUGHPUT, report.figures))
    for line in _comparison_lines(report):
        console.print(line, highlight=False)
    for warning in report.warnings:
        console.print(f"[yellow]note:[/] {warning}", highlight=False)


def _table(title: str, columns: dict[str, str], figures: Sequence[ArmFigures]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("c", justify="right")
    table.add_column("arm")
    for head in columns:
        table.add_column(head, justify="right")
    for row in figures:
        table.add_row(*_cells(row, columns), end_section=row.arm == figures[-1].arm)
    return table


def to_markdown(report: BenchReport) -> str:
    """The report as a page."""
    columns = _LATENCY | _THROUGHPUT
    heads = ["c", "arm", *columns]
    rows = [_cells(figures, columns) for figures in report.figures]
    table = [heads, ["---"] * len(heads), *rows]
    engine = " ".join(f"{name}={value}" for name, value in report.engine.model_dump().items() if value != {})
    config = report.config
    lines = [
        "# Graph against bare vLLM",
        "",
        f"Taken {report.taken_at:%Y-%m-%d %H:%M} UTC on {report.machine.line()}.",
        "",
        *("| " + " | ".join(row) + " |" for row in table),
        "",
        f"Medians over {config.rounds} rounds in which the servers took turns; in brackets the lowest and the "
        "highest round. TTFT, ITL (gap between two events) and TPOT (time per output token after the first) are "
        "milliseconds; `c` is the number of requests in flight.",
        "",
        *(f"- {line}" for line in _comparison_lines(report)),
        *(f"- **Note:** {warning}" for warning in report.warnings),
        "",
        f"Persona `{config.persona}`, adapter `{report.graph.adapter or 'none'}`, max_tokens {config.max_tokens}, "
        f"seed {config.seed}. Engine: `{engine}`.",
        "",
        "Versions: "
        + ", ".join(f"{name} {found}" for name, found in report.machine.versions.items())
        + f", Python {report.machine.python}, Linux {report.machine.kernel}.",
        "",
        "Engine switches: " + (_pairs(report.machine.environment) or "vLLM's defaults") + ".",
        *(f"- {e.side}: `{e.process}`, {e.threads} threads on CPUs {' / '.join(e.cpus)}" for e in report.engines),
    ]
    return "\n".join(lines) + "\n"


def write_report(report: BenchReport, path: Path) -> tuple[Path, Path]:
    """JSON to ``path`` and Markdown beside it."""
    page = path.with_suffix(".md")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    page.write_text(to_markdown(report), encoding="utf-8")
    return path, page


def _cells(figures: ArmFigures, columns: dict[str, str]) -> list[str]:
    return [str(figures.concurrency), figures.arm, *(_cell(figures, name) for name in columns.values())]


def _cell(figures: ArmFigures, name: str) -> str:
    middle = _number(getattr(figures.median, name), name)
    if name in _WITH_SPREAD and figures.rounds > 1:
        low, high = (_number(getattr(side, name), name) for side in (figures.low, figures.high))
        return f"{middle} ({low}–{high})"
    return middle


def _number(value: float, name: str) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.0f}" if name in _WHOLE or value >= 100 else f"{value:.1f}"


def _comparison_lines(report: BenchReport) -> list[str]:
    lines = [
        f"c={c.concurrency}: graph adds {c.ttft_added_ms:+.1f} ms to TTFT p50 "
        f"({c.ttft_added_low_ms:+.1f} to {c.ttft_added_high_ms:+.1f}) and gives {c.tokens_ratio:.0%} of the tokens/s "
        f"of {c.bare} ({c.tokens_ratio_low:.0%}–{c.tokens_ratio_high:.0%})"
        for c in report.comparisons
    ]
    if report.chat:
        p50, p95, rate = (
            _number(getattr(report.chat, name), name) for name in ("ttft_p50", "ttft_p95", "tokens_per_s")
        )
        lines.append(f"/chat, {CHAT_WORKERS} fans with sessions: TTFT p50 {p50} ms, p95 {p95} ms, {rate} tokens/s")
    return lines


def _pairs(values: dict[str, str]) -> str:
    return ", ".join(f"`{name}={value}`" for name, value in values.items())
