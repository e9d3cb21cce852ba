"""The fine-tuning job for real, on a random Llama with our tokenizer: alone and submitted."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.manifest import read_manifest
from adapters.store import file_hashes
from core.settings import PROJECT_ROOT

pytest.importorskip("trl")
pytestmark = [pytest.mark.training, pytest.mark.slow, pytest.mark.timeout(900)]

SMOKE = "train_jobs/configs/smoke.yaml"
PATIENCE_S = 420


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with ``micro``: one random layer under our tokenizer."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("models")
    tokenizer = AutoTokenizer.from_pretrained(PROJECT_ROOT / "models" / "base")
    shape = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(shape).save_pretrained(folder / "micro")
    tokenizer.save_pretrained(folder / "micro")
    return folder


@pytest.fixture
def environment(models: Path, tmp_path: Path) -> dict[str, str]:
    """Outputs go to a directory of the test; no cluster is taken over from the caller."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    return kept | {
        "ARTISTMIND_HOME": str(tmp_path / "home"),
        "ARTISTMIND_MODELS_DIR": str(models),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "RAY_raylet_start_wait_time_s": "120",
        "WANDB_SILENT": "true",
    }


def command(*overrides: str) -> list[str]:
    return [sys.executable, "-m", "train_jobs.qlora", "--config", SMOKE, "base_model=micro", *overrides]


def kill(process: subprocess.Popen[Any]) -> None:
    """Kill the group that the test started; what Ray put into groups of its own dies with its parent."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)


def assert_published(home: Path, steps: int) -> None:
    folder = home / "adapters" / "haneul" / "v1"
    manifest = read_manifest(folder)
    assert (manifest.persona, manifest.version, manifest.base_model) == ("haneul", "v1", "micro")
    assert manifest.metrics["steps"] == steps
    assert manifest.metrics["training_rows"] + manifest.metrics["too_long_rows"] < 40
    assert manifest.files == file_hashes(folder)
    assert set(manifest.files) == {"adapter_config.json", "adapter_model.safetensors"}
    assert str(home) not in (folder / "adapter_config.json").read_text(encoding="utf-8")
    samples = (home / "training" / "smoke" / "samples.md").read_text(encoding="utf-8")
    assert samples.count("**reply: ") == 1


def assert_loads_with_peft(adapter: Path, base: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)
    settings = model.peft_config["default"]
    assert (settings.r, settings.modules_to_save) == (4, None)
    learned = [float(value.abs().max()) for name, value in model.named_parameters() if "lora_B" in name]
    assert len(learned) == 7
    assert min(learned) > 0, "a layer of the adapter was never updated"


def test_a_run_publishes_an_adapter_that_peft_loads(
    environment: dict[str, str], models: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    pipe = subprocess.PIPE
    run = subprocess.Popen(
        command("max_steps=24", "publish=true", "wandb_mode=offline"),
        cwd=PROJECT_ROOT,
        env=environment,
        stdout=pipe,
        stderr=pipe,
        text=True,
        start_new_session=True,
    )
    try:
        _, errors = run.communicate(timeout=PATIENCE_S)
    finally:
        kill(run)
    assert run.returncode == 0, errors[-3000:]
    assert_published(home, steps=24)
    assert_loads_with_peft(home / "adapters" / "haneul" / "v1", models / "micro")
    assert list((home / "training" / "smoke" / "wandb").glob("offline-run-*"))


@pytest.fixture
def head(environment: dict[str, str]) -> Iterator[str]:
    """A Ray head of the test's own; the address of its job server."""
    ports = free_ports(6)
    # Ray's sockets lie below it, and their paths may not be longer than about 100 characters.
    directory = tempfile.mkdtemp(prefix="am-", dir="/tmp")
    names = ("port", "dashboard-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port")
    options = [f"--{name}={port}" for name, port in zip(names, ports, strict=False)]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=2"),
            *("--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", "--disable-usage-stats"),
            *(f"--ray-client-server-port={ports[4]}", f"--metrics-export-port={ports[5]}"),
            *(f"--temp-dir={directory}", "--object-store-memory=100000000", *options),
        ],
        cwd=directory,
        env=environment,
        start_new_session=True,
    )
    try:
        wait_for_port(ports[1], process)
        yield f"http://127.0.0.1:{ports[1]}"
    finally:
        kill(process)
        shutil.rmtree(directory, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "the Ray head ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise AssertionError("the Ray head's job server did not come up")


def submit(head: str, environment: dict[str, str], job: list[str]) -> subprocess.CompletedProcess[str]:
    """Submit once the head's agent is there: on a busy machine it comes up some time after the job server."""
    client = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--address", head]
    deadline = time.monotonic() + PATIENCE_S
    while True:
        done = subprocess.run(
            [*client, "--working-dir", str(PROJECT_ROOT), "--", *job],
            cwd=PROJECT_ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        if "No available agent" not in done.stderr or time.monotonic() > deadline:
            return done
        time.sleep(1)


def test_a_submitted_job_publishes_outside_its_copy_of_the_code(
    environment: dict[str, str], head: str, models: Path, tmp_path: Path
) -> None:
    done = submit(head, environment, command("publish=true"))
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert_published(tmp_path / "home", steps=2)
    state = json.loads((tmp_path / "home" / "training" / "smoke" / "run.json").read_text(encoding="utf-8"))
    assert state["base_model"] == "micro"
