"""What a benchmark run is told."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from loadtest.metrics import FrozenModel


class BenchConfig(FrozenModel):
    """Bounds are part of it: a run ends by count and by time."""

    graph: str = "http://127.0.0.1:8000"
    """The running graph; loopback only."""

    persona: str = "haneul"
    """Whose adapter and prompt are measured."""

    concurrency: tuple[int, ...] = Field(default=(1, 8, 32), min_length=1)
    """Requests kept in flight, one load after the other."""

    rounds: int = Field(default=3, ge=1, le=20)
    """How often the servers take turns under each load."""

    requests: int | None = Field(default=None, ge=1, le=2000)
    """Per arm, load and round; unset: four per worker, at least 24."""

    max_tokens: int = Field(default=64, ge=1, le=1024)
    temperature: float | None = Field(default=None, ge=0, le=2)
    """Unset: the character's own."""

    top_p: float | None = Field(default=None, gt=0, le=1)
    """Unset: the character's own."""

    seed: int = 7
    """The same for every request, so that both servers draw the same tokens."""

    with_base: bool = False
    """A third arm: the bare server without the adapter."""

    chat: bool = False
    """Afterwards ``/chat`` with sessions, profiles and memory, eight fans at once."""

    bare_url: str | None = None
    """A bare server that runs already, in place of starting one; loopback only."""

    bare_model: str | None = None
    """The adapter's name on that server; unset: the persona's."""

    adapter: Path | None = None
    """The adapter for the bare server; unset: the one that the graph says it answers with."""

    graph_config: Path = Path("serve_local.yaml")
    """Where the engine's settings are read, so that both engines have the same."""

    omp_threads_bind: str | None = None
    """``VLLM_CPU_OMP_THREADS_BIND`` of the bare server; set it to what the graph runs under."""

    start_timeout_s: float = Field(default=300, gt=0, le=1800)
    """How long the bare server may take to load."""

    request_timeout_s: float = Field(default=120, gt=0, le=600)
    time_limit_s: float = Field(default=1800, gt=0, le=7200)
    """For the measuring itself; what is complete by then is reported."""

    out: Path | None = None
    """JSON report; a Markdown report is written beside it."""

    def step_size(self, concurrency: int) -> int:
        """Requests of one step."""
        return self.requests or max(24, 4 * concurrency)
