import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.errors import ConfigurationError, SetupError
from core.settings import PROJECT_ROOT
from loadtest import bare_server as module
from loadtest.bare_server import (
    BareServer,
    BareServerConfig,
    EngineSettings,
    bare_server,
    command,
    environment,
)


def make_config(tmp_path: Path, **changes: object) -> BareServerConfig:
    engine = EngineSettings(engine_kwargs={"max_num_seqs": 16, "enforce_eager": True, "enable_prefix_caching": False})
    values = {
        "engine": engine,
        "model_path": "/m",
        "adapters": {"haneul": "/a"},
        "log_file": tmp_path / "bare.log",
    }
    return BareServerConfig(**(values | changes))


def test_the_command_mirrors_the_graphs_engine(tmp_path: Path) -> None:
    line = " ".join(command(make_config(tmp_path), 9000))
    assert "-m vllm.entrypoints.openai.api_server --host 127.0.0.1 --port 9000" in line
    for part in (
        "--dtype bfloat16", "--max-model-len 1536", "--enable-lora", "--max-loras 4", "--max-lora-rank 16",
        "--gpu-memory-utilization 0.2", "--max-num-seqs 16", "--enforce-eager", "--no-enable-prefix-caching",
        "--lora-modules haneul=/a", "--served-model-name base",
    ):  # fmt: skip
        assert f" {part}" in line, part


def test_a_gpu_takes_no_cpu_settings(tmp_path: Path) -> None:
    config = make_config(tmp_path, engine=EngineSettings(device="gpu"), adapters={})
    line = command(config, 9000)
    assert "--gpu-memory-utilization" not in line
    assert "--lora-modules" not in line
    assert "VLLM_CPU_KVCACHE_SPACE" not in environment(config, {})


def test_the_thread_binding_is_passed_on_and_can_be_set(tmp_path: Path) -> None:
    shell = {"VLLM_CPU_OMP_THREADS_BIND": "0-1", "VLLM_LOGGING_LEVEL": "INFO"}
    inherited = environment(make_config(tmp_path), shell)
    assert inherited["VLLM_CPU_OMP_THREADS_BIND"] == "0-1"
    assert inherited["VLLM_LOGGING_LEVEL"] == "INFO"
    assert inherited["VLLM_CPU_KVCACHE_SPACE"] == "1"
    own = environment(make_config(tmp_path, omp_threads_bind="nobind"), shell)
    assert own["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"


def test_the_local_graphs_settings_can_be_read() -> None:
    engine = module.read_engine_settings(PROJECT_ROOT / "serve_local.yaml")
    assert engine.device == "cpu"
    assert engine.model == "base"


def test_a_configuration_without_application_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    for content in ("applications: []", "[", "7"):
        path.write_text(content)
        with pytest.raises(ConfigurationError, match=r"x\.yaml"):
            module.read_engine_settings(path)


def test_a_server_that_ends_at_once_is_told_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "command", lambda *_: [sys.executable, "-c", "raise SystemExit('no such model')"])
    with pytest.raises(SetupError, match="no such model"), bare_server(make_config(tmp_path)):
        pass


def test_a_server_that_never_serves_times_out_and_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sleep = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    monkeypatch.setattr(module, "command", lambda *_: [sys.executable, "-c", sleep])
    with (
        pytest.raises(SetupError, match="not ready"),
        bare_server(make_config(tmp_path, start_timeout_s=1.5)),
    ):
        pass
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_the_whole_group_is_ended_even_when_it_does_not_want_to(tmp_path: Path) -> None:
    # The child ignores SIGTERM and outlives its parent, as an engine process may.
    child = "import signal as s, time; s.signal(s.SIGTERM, s.SIG_IGN); print('up', flush=True); time.sleep(60)"
    parent = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", parent], start_new_session=True, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    BareServer(process, "http://127.0.0.1:1", tmp_path / "log").end(patience_s=0.3)
    assert process.returncode == -signal.SIGTERM
    deadline = time.monotonic() + 5
    while _alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(process.pid)
    process.stdout.close()


def _alive(group: int) -> bool:
    """Whether the group has a member that is not a zombie waiting for init."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _parent, of_group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(of_group) == group and state != "Z":
            return True
    return False
