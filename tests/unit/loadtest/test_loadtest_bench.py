import asyncio
import json
import math
from pathlib import Path

import pytest
from aiohttp import ClientError
from rich.console import Console
from typer import Typer
from typer.testing import CliRunner

from core.errors import ConfigurationError, SetupError
from core.settings import Settings
from loadtest.bare_server import EngineSettings
from loadtest.bench import bench
from loadtest.client import LoadClient, RequestTrace
from loadtest.config import BenchConfig
from loadtest.graph_probe import GraphInfo, probe_graph
from loadtest.machine import EngineThreads, bindings_differ, describe_machine
from loadtest.metrics import Step, summarise
from loadtest.mock_server import STATE, Behaviour, make_app, running
from loadtest.orchestrator import find_adapter, run_bench
from loadtest.report import BenchReport, build_report, print_report, to_markdown, write_report
from loadtest.runner import Measured

SLOW = Behaviour(first_token_s=0.08, token_s=0.0, tokens=4)
FAST = Behaviour(first_token_s=0.01, token_s=0.0, tokens=4)


def ignore(_line: str) -> None: ...


async def run(graph: Behaviour, bare: Behaviour, **changes: object) -> tuple[BenchReport, list[str]]:
    """The bench in a thread of its own: it is synchronous, the mock servers live in this loop."""
    said: list[str] = []
    async with running(make_app(graph)) as graph_url, running(make_app(bare)) as bare_url:
        values = {"graph": graph_url, "bare_url": bare_url, "concurrency": (1, 4), "rounds": 2, "requests": 4}
        report = await asyncio.to_thread(run_bench, BenchConfig(**(values | changes)), said.append)
    return report, said


async def test_the_graphs_delay_shows_as_added_ttft() -> None:
    report, said = await run(SLOW, FAST)
    assert [c.concurrency for c in report.comparisons] == [1, 4]
    for compared in report.comparisons:
        assert 30 < compared.ttft_added_ms < 500
        assert 0 < compared.tokens_ratio < 1
    assert report.failed_requests == 0
    assert report.graph.adapter == "haneul/mock"
    turns = [line.rpartition(": ")[2] for line in said if line.startswith("concurrency")]
    assert turns == ["graph", "bare"] * 4


async def test_the_base_and_chat_arms_are_measured_on_request() -> None:
    app = make_app(FAST)
    async with running(app) as url:
        config = BenchConfig(
            graph=url, bare_url=url, concurrency=(2,), rounds=1, requests=2, with_base=True, chat=True
        )
        report = await asyncio.to_thread(run_bench, config, ignore)
    assert {f.arm for f in report.figures} == {"graph", "bare", "bare-base"}
    assert {c.bare for c in report.comparisons} == {"bare", "bare-base"}
    assert report.chat is not None
    assert report.chat.errors == 0
    assert report.chat.ttft_p50 > 0
    # What the arm wrote about its fans is erased.
    assert not app[STATE].fans


async def test_a_chat_arm_that_cannot_open_sessions_counts_as_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> None:
        raise ClientError("503 for /session")

    monkeypatch.setattr(LoadClient, "open_session", refuse)
    report, _ = await run(FAST, FAST, chat=True, rounds=1, concurrency=(1,), requests=1)
    assert report.failed_requests == 1
    assert any("503 for /session" in warning for warning in report.warnings)


async def test_failed_requests_are_reported_as_such() -> None:
    report, _ = await run(Behaviour(first_token_s=0, token_s=0, fail_every=3), FAST)
    assert report.failed_requests > 0
    assert any("the engine failed" in warning for warning in report.warnings)


async def test_the_time_limit_keeps_what_is_complete() -> None:
    report, _ = await run(SLOW, FAST, time_limit_s=1.0, rounds=20, concurrency=(1,))
    assert any("cut the run short" in warning for warning in report.warnings)
    assert len(report.steps) < 40


async def test_a_graph_that_is_not_up_is_told_before_anything_starts() -> None:
    with pytest.raises(SetupError, match="artistmind up"):
        await asyncio.to_thread(probe_graph, "http://127.0.0.1:9", "haneul", 5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--graph", "http://127.0.0.1:9"], "the graph is not up"),
        (["--graph", "http://example.com"], "refused"),
        (["--concurrency", "1,x"], "--concurrency"),
        (["--concurrency", "0"], "--concurrency"),
        (["--rounds", "0"], "rounds"),
        (["--persona", "nobody"], "nobody"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_the_command_fails_in_one_line(arguments: list[str], words: str) -> None:
    app = Typer()
    app.command()(bench)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def report_of(steps: list[Step]) -> BenchReport:
    graph = GraphInfo(url="http://127.0.0.1:1", persona="haneul", adapter="haneul/v1", components={"qdrant": "down"})
    measured = Measured(steps=steps, adapters={"haneul/v2"})
    engines = [
        EngineThreads(side="bare", process="VLLM::Worker", threads=4, cpus=("0",)),
        EngineThreads(side="graph", process="ray::RayWorker", threads=4, cpus=("0-1",)),
    ]
    return build_report(BenchConfig(), EngineSettings(), graph, describe_machine({}), engines, measured)


def failed_step() -> Step:
    return Step(arm="graph", concurrency=1, round=1, summary=summarise([]))


def test_the_report_warns_of_what_spoils_a_comparison() -> None:
    warnings = " / ".join(report_of([]).warnings)
    assert "without qdrant" in warnings
    assert "haneul/v2" in warnings
    assert "different CPUs" in warnings


def test_unequal_work_is_noted() -> None:
    def work(arm: str, prompt: int, output: int) -> Step:
        traces = [RequestTrace(0.0, 1.0, (0.1, 0.9), prompt_tokens=prompt, output_tokens=output)]
        return Step(arm=arm, concurrency=1, round=1, summary=summarise(traces))

    notes = " / ".join(report_of([work("graph", 70, 20), work("bare", 40, 30)]).warnings)
    assert "+30 tokens" in notes
    assert "differ in length" in notes
    equal = " / ".join(report_of([work("graph", 40, 29), work("bare", 40, 30)]).warnings)
    assert "tokens on average" not in equal
    assert "differ in length" not in equal


def test_figures_that_are_missing_are_dashes_and_null(tmp_path: Path) -> None:
    report = report_of([failed_step()])
    written, page = write_report(report, tmp_path / "deep" / "out.json")
    figures = json.loads(written.read_text())["figures"][0]
    assert figures["median"]["ttft_p50"] is None
    assert math.isnan(report.figures[0].median.ttft_p50)
    row = next(line for line in page.read_text().splitlines() if line.startswith("| 1 | graph"))
    assert " – " in row


def test_every_markdown_row_has_all_columns() -> None:
    table = [line for line in to_markdown(report_of([failed_step()])).splitlines() if line.startswith("|")]
    assert len(table) == 3
    assert len({line.count("|") for line in table}) == 1


def test_the_terminal_report_fits_eighty_columns() -> None:
    console = Console(width=80, record=True, file=None, quiet=False)
    with console.capture() as captured:
        print_report(report_of([failed_step()]), console)
    assert "TTFT p50" in captured.get()
    assert "tokens/s" in captured.get()


def test_equal_bindings_raise_no_warning() -> None:
    same = [EngineThreads(side=side, process="p", threads=2, cpus=("0", "0-1")) for side in ("bare", "graph")]
    assert not bindings_differ(same)
    assert not bindings_differ(same[:1])


def test_the_adapter_is_the_one_the_graph_answers_with(tmp_path: Path) -> None:
    settings = Settings(adapters_dir=tmp_path)
    graph = GraphInfo(url="u", persona="haneul", adapter="haneul/v999", components={})
    with pytest.raises(ConfigurationError, match="--adapter"):
        find_adapter(BenchConfig(), graph, settings)
    folder = tmp_path / "haneul" / "v999"
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}")
    assert find_adapter(BenchConfig(), graph, settings) == folder
    without = graph.model_copy(update={"adapter": None})
    assert find_adapter(BenchConfig(), without, settings) is None
    assert find_adapter(BenchConfig(adapter=folder), without, settings) == folder
