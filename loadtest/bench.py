"""``python -m loadtest.bench``: what the graph costs over bare vLLM, on this machine, in one run."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console

from core.errors import ArtistMindError, ConfigurationError
from loadtest.config import BenchConfig
from loadtest.orchestrator import run_bench
from loadtest.report import print_report, write_report

_D = BenchConfig()


def bench(
    graph: Annotated[str, typer.Option(help="The running graph.")] = _D.graph,
    persona: Annotated[str, typer.Option(help="Whose adapter is measured.")] = _D.persona,
    concurrency: Annotated[str, typer.Option(help="Requests in flight, comma-separated.")] = "1,8,32",
    rounds: Annotated[int, typer.Option(help="Turns per server and load.")] = _D.rounds,
    requests: Annotated[int | None, typer.Option(help="Per server, load and round.")] = None,
    max_tokens: Annotated[int, typer.Option(help="Per reply.")] = _D.max_tokens,
    temperature: Annotated[float | None, typer.Option(help="Default: the character's.")] = None,
    base: Annotated[bool, typer.Option("--base", help="Also the bare server without adapter.")] = False,
    chat: Annotated[bool, typer.Option("--chat", help="Also /chat with sessions, 8 fans.")] = False,
    bare_url: Annotated[str | None, typer.Option(help="A bare server that runs already.")] = None,
    adapter: Annotated[Path | None, typer.Option(help="Adapter directory for the bare server.")] = None,
    config: Annotated[Path, typer.Option(help="The graph's YAML: engine settings.")] = _D.graph_config,
    omp_bind: Annotated[str | None, typer.Option(help="VLLM_CPU_OMP_THREADS_BIND for it.")] = None,
    start_timeout: Annotated[float, typer.Option(help="Seconds for the bare server.")] = _D.start_timeout_s,
    time_limit: Annotated[float, typer.Option(help="Seconds for the measuring.")] = _D.time_limit_s,
    out: Annotated[Path | None, typer.Option(help="JSON report; Markdown goes beside it.")] = None,
) -> None:
    """Run the graph and bare vLLM in turns under the same load and report the difference."""
    console = Console()
    # Ends the bare server on `kill`, too: SystemExit unwinds, the signal's default would not.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        settings = BenchConfig(
            graph=graph, persona=persona, concurrency=_loads(concurrency), rounds=rounds, requests=requests,
            max_tokens=max_tokens, temperature=temperature, with_base=base, chat=chat, bare_url=bare_url,
            adapter=adapter, graph_config=config, omp_threads_bind=omp_bind,
            start_timeout_s=start_timeout, time_limit_s=time_limit, out=out,
        )  # fmt: skip
        report = run_bench(settings, lambda line: console.print(f"[dim]{line}[/]"))
    except ValidationError as error:
        _fail(f"{error.errors()[0]['loc'][0]}: {error.errors()[0]['msg']}")
    except ArtistMindError as error:
        _fail(error.message)
    print_report(report, console)
    if out:
        console.print(f"written: {', '.join(map(str, write_report(report, out)))}")
    if report.failed_requests:
        _fail(f"{report.failed_requests} requests failed: the figures are not comparable")


def _loads(text: str) -> tuple[int, ...]:
    try:
        loads = tuple(int(part) for part in text.split(","))
    except ValueError:
        loads = ()
    if not loads or not all(1 <= load <= 256 for load in loads):
        raise ConfigurationError(f"--concurrency {text!r}: give numbers from 1 to 256, such as 1,8,32")
    return loads


def _fail(line: str) -> None:
    Console(stderr=True).print(f"[red]error:[/] {line}", highlight=False, soft_wrap=True)
    raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(bench)
