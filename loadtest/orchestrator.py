"""One run from beginning to end: look at the graph, start the bare server, measure, report."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from core.errors import ConfigurationError
from core.settings import Settings, get_settings
from loadtest.bare_server import (
    BASE_MODEL,
    BareServerConfig,
    EngineSettings,
    bare_server,
    read_engine_settings,
)
from loadtest.config import BenchConfig
from loadtest.graph_probe import GraphInfo, probe_graph
from loadtest.loopback import require_loopback
from loadtest.machine import describe_machine, engine_threads
from loadtest.report import BenchReport, build_report
from loadtest.runner import Say, make_arms, measure
from loadtest.workload import MessageSource, load_character, load_messages


@dataclass(frozen=True)
class _Bare:
    """The bare side: where it is, what the adapter is called there, and its process group if it is ours."""

    url: str
    model: str
    group: int | None


def run_bench(config: BenchConfig, say: Say) -> BenchReport:
    """Compare the running graph with bare vLLM.

    Raises:
        SetupError: The graph is not up, or the bare server does not start.
        ConfigurationError: An address beyond this machine, or a file that is missing.
    """
    settings = get_settings()
    config = config.model_copy(update={"graph": require_loopback(config.graph)})
    character = load_character(settings.resolved(settings.cards_dir), config.persona)
    engine = read_engine_settings(settings.resolved(config.graph_config))
    machine = describe_machine(os.environ)
    graph = probe_graph(config.graph, config.persona, config.request_timeout_s)
    with _bare_side(config, engine, graph, settings, say) as bare:
        arms = make_arms(config, character, bare.url, bare.model, BASE_MODEL)
        measured = asyncio.run(measure(config, arms, MessageSource(load_messages()), say))
        engines = engine_threads(bare.group)
    return build_report(config, engine, graph, machine, engines, measured)


@contextmanager
def _bare_side(
    config: BenchConfig, engine: EngineSettings, graph: GraphInfo, settings: Settings, say: Say
) -> Iterator[_Bare]:
    """The server that runs already, or one of our own for as long as it is needed."""
    if config.bare_url:
        yield _Bare(require_loopback(config.bare_url), config.bare_model or config.persona, None)
        return
    adapter = find_adapter(config, graph, settings)
    launch = BareServerConfig(
        engine=engine,
        model_path=settings.model_path(engine.model),
        adapters={config.persona: str(adapter)} if adapter else {},
        log_file=settings.log_dir / "bare-vllm.log",
        omp_threads_bind=config.omp_threads_bind,
        start_timeout_s=config.start_timeout_s,
    )
    say(f"starting bare vLLM with {adapter or 'no adapter'} (log: {launch.log_file})")
    with bare_server(launch) as server:
        yield _Bare(server.url, config.persona if adapter else BASE_MODEL, server.group)


def find_adapter(config: BenchConfig, graph: GraphInfo, settings: Settings) -> Path | None:
    """The directory of the adapter that the graph answers with; ``None`` when it answers with the base model.

    Raises:
        ConfigurationError: It is not where adapters are kept.
    """
    if config.adapter:
        candidates = [config.adapter.resolve()]
    elif graph.adapter:
        candidates = [root / graph.adapter for root in settings.adapter_roots]
    else:
        return None
    for folder in candidates:
        if (folder / "adapter_config.json").is_file():
            return folder
    looked = ", ".join(map(str, candidates))
    raise ConfigurationError(f"no adapter in {looked}: name its directory with --adapter")
