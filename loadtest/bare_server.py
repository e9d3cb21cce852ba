"""The bare vLLM server to compare with: the graph's model, adapter and engine settings, nothing around it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import httpx
import yaml
from pydantic import Field

from core.errors import ConfigurationError, SetupError
from loadtest.metrics import FrozenModel

BASE_MODEL = "base"
_HOST = "127.0.0.1"


class EngineSettings(FrozenModel):
    """The generator's arguments that decide how fast an engine is; names as in the graph's YAML."""

    model: str = "base"
    device: Literal["cpu", "gpu"] = "cpu"
    max_model_len: int = Field(default=1536, ge=128)
    max_loras: int = Field(default=4, ge=1)
    max_lora_rank: int = Field(default=16, ge=1)
    kv_cache_gib: int = Field(default=1, ge=1)
    engine_kwargs: dict[str, Any] = Field(default_factory=dict)


class BareServerConfig(FrozenModel):
    """Everything needed to start it."""

    engine: EngineSettings
    model_path: str
    """Directory or hub name of the base model."""

    adapters: dict[str, str] = Field(default_factory=dict)
    """Served name to the adapter's directory."""

    log_file: Path
    omp_threads_bind: str | None = None
    """``VLLM_CPU_OMP_THREADS_BIND``; unset: as in the caller's environment, else vLLM's own default."""

    start_timeout_s: float = Field(default=300, gt=0)


def read_engine_settings(path: Path) -> EngineSettings:
    """The generator's arguments out of a Serve configuration.

    Raises:
        ConfigurationError: The file is missing, or holds no such arguments.
    """
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        generator = config["applications"][0].get("args", {}).get("generator", {})
    except (OSError, yaml.YAMLError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"{path}: holds no application ({error!r}); name the graph with --config") from error
    return EngineSettings(**{name: generator[name] for name in EngineSettings.model_fields if name in generator})


def command(config: BareServerConfig, port: int) -> list[str]:
    """The server's command line. The ``vllm`` script does not start under ``vllm-cpu``; its module does."""
    engine = config.engine
    arguments: dict[str, Any] = {
        "dtype": "bfloat16",
        "max_model_len": engine.max_model_len,
        "enable_lora": True,
        "max_loras": engine.max_loras,
        # As the graph's engine on CPU: a seeded request whose prompt is split kills vLLM 0.29 there.
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(2048, engine.max_model_len),
        "max_lora_rank": engine.max_lora_rank,
        "enable_prefix_caching": True,
    }
    if engine.device == "cpu":
        # On CPU this is the share of RAM; vLLM's default of 0.92 fails at start.
        arguments["gpu_memory_utilization"] = 0.2
    line = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host", _HOST, "--port", str(port)]
    line += ["--model", config.model_path, "--served-model-name", BASE_MODEL, "--disable-uvicorn-access-log"]
    for name, value in (arguments | engine.engine_kwargs).items():
        line += _flag(name, value)
    modules = [f"{name}={path}" for name, path in config.adapters.items()]
    return line + (["--lora-modules", *modules] if modules else [])


def _flag(name: str, value: Any) -> list[str]:
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{option}" if value else f"--no-{option}"]
    return [f"--{option}", json.dumps(value) if isinstance(value, dict | list) else str(value)]


def environment(config: BareServerConfig, base: Mapping[str, str]) -> dict[str, str]:
    """The same switches that the graph's engine runs under."""
    env = {
        "VLLM_LOGGING_LEVEL": "WARNING",
        "TOKENIZERS_PARALLELISM": "false",
        **base,
        "VLLM_NO_USAGE_STATS": "1",
    }
    if config.engine.device == "cpu":
        env["VLLM_CPU_KVCACHE_SPACE"] = str(config.engine.kv_cache_gib)
    if config.omp_threads_bind:
        env["VLLM_CPU_OMP_THREADS_BIND"] = config.omp_threads_bind
    return env


@contextmanager
def bare_server(config: BareServerConfig) -> Iterator[BareServer]:
    """Start it, wait until it serves, and end its whole process group afterwards.

    Raises:
        SetupError: It ended or was not ready in time; names the log.
    """
    port = _free_port()
    config.log_file.parent.mkdir(parents=True, exist_ok=True)
    with config.log_file.open("wb") as log:
        process = subprocess.Popen(
            command(config, port),
            env=environment(config, os.environ),
            cwd=config.log_file.parent,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = BareServer(process, f"http://{_HOST}:{port}", config.log_file)
    try:
        server.wait_until_healthy(config.start_timeout_s)
        yield server
    finally:
        server.end()


class BareServer:
    """A running server and its process group."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log_file: Path) -> None:
        self._process = process
        self.url = url
        self._log_file = log_file

    @property
    def group(self) -> int:
        """The process group: server, engine and workers."""
        return self._process.pid

    def wait_until_healthy(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        with httpx.Client(trust_env=False, timeout=5) as http:
            while time.monotonic() < deadline:
                if (code := self._process.poll()) is not None:
                    raise SetupError(
                        f"bare vLLM ended with {code}: {self._last_line()} (all of it: {self._log_file})"
                    )
                if _is_healthy(http, self.url):
                    return
                time.sleep(0.5)
        raise SetupError(f"bare vLLM was not ready within {timeout_s:.0f} s: see {self._log_file}")

    def end(self, patience_s: float = 15) -> None:
        """Ask the group to end, then make it."""
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + patience_s
        while self._group_lives() and time.monotonic() < deadline:
            time.sleep(0.1)
        if self._group_lives():
            self._signal(signal.SIGKILL)
        self._process.wait()

    def _group_lives(self) -> bool:
        # Reaps the leader: as a zombie it would keep the group alive for ever.
        self._process.poll()
        return self._signal(0)

    def _signal(self, number: int) -> bool:
        try:
            os.killpg(self.group, number)
        except ProcessLookupError:
            return False
        return True

    def _last_line(self) -> str:
        lines = self._log_file.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1].strip()[:200] if lines else "it said nothing"


def _is_healthy(http: httpx.Client, url: str) -> bool:
    try:
        return http.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port
