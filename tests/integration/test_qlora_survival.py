"""A run that is interrupted, by a killed driver, a killed worker or the clock, learns what a whole one learns."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from core.settings import PROJECT_ROOT

pytest.importorskip("trl")
pytestmark = [pytest.mark.training, pytest.mark.slow, pytest.mark.timeout(1800)]

STEPS = 48
"""Many more than up to the first checkpoint: what is to be killed there cannot have ended by itself."""

COMMAND = (sys.executable, "-m", "train_jobs.qlora", "--config", "train_jobs/configs/smoke.yaml", "base_model=micro")
# Packed, with dropout, over several epochs: order, random states, optimiser and schedule all have to come back.
RUN = (
    *COMMAND,
    "data.count=24",
    "packing=true",
    "batch_size=1",
    "dropout=0.1",
    f"max_steps={STEPS}",
    "save_every=4",
    "samples=0",
)
PATIENCE_S = 420


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with ``micro``, one random layer under our tokenizer, and ``poisoned``, whose loss is NaN."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("models")
    tokenizer = AutoTokenizer.from_pretrained(PROJECT_ROOT / "models" / "base")
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    model.save_pretrained(folder / "micro")
    model.get_input_embeddings().weight.data.fill_(float("nan"))
    model.save_pretrained(folder / "poisoned")
    for name in ("micro", "poisoned"):
        tokenizer.save_pretrained(folder / name)
    return folder


@pytest.fixture(scope="module")
def environment_of(models: Path) -> Callable[[Path], dict[str, str]]:
    """The environment of a run whose home is the given folder; no cluster is taken over from the caller."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    kept |= {"ARTISTMIND_MODELS_DIR": str(models), "RAY_raylet_start_wait_time_s": "120"}
    return lambda home: kept | {"ARTISTMIND_HOME": str(home)}


def run(command: tuple[str, ...], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The command to its end; one that takes too long is killed with all that it started."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, cwd=PROJECT_ROOT, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )
    try:
        said, errors = process.communicate(timeout=PATIENCE_S)
    finally:
        kill_group(process)
    return subprocess.CompletedProcess(command, process.returncode, said, errors)


def finish(command: tuple[str, ...], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    done = run(command, environment)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done


def losses(home: Path) -> dict[int, float]:
    """The loss of each step, from the run's history."""
    lines = (home / "training" / "smoke" / "history.jsonl").read_text(encoding="utf-8").splitlines()
    return {entry["step"]: entry["loss"] for entry in map(json.loads, lines) if "loss" in entry}


def wait_for_checkpoint(home: Path, process: subprocess.Popen[bytes]) -> None:
    snapshot = home / "training" / "smoke" / "checkpoint_manager_snapshot.json"
    deadline = time.monotonic() + PATIENCE_S
    while not (snapshot.is_file() and "checkpoint_" in snapshot.read_text(encoding="utf-8")):
        assert process.poll() is None, "the run ended before its first checkpoint"
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.02)


def kill_group(process: subprocess.Popen[Any]) -> None:
    """Kill what is left of the group that the test started; what Ray put into groups of its own dies with it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)


@pytest.fixture(scope="module")
def whole(
    environment_of: Callable[[Path], dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> dict[int, float]:
    """The losses of a run that nothing interrupts."""
    home = tmp_path_factory.mktemp("whole")
    finish(RUN, environment_of(home))
    found = losses(home)
    assert sorted(found) == list(range(1, STEPS + 1))
    assert len(set(found.values())) > STEPS // 2, "losses that are all alike would prove nothing"
    return found


def test_a_killed_driver_goes_on_to_the_same_losses(
    environment_of: Callable[[Path], dict[str, str]], tmp_path: Path, whole: dict[int, float]
) -> None:
    environment = environment_of(tmp_path)
    first = subprocess.Popen(RUN, cwd=PROJECT_ROOT, env=environment, start_new_session=True)
    try:
        wait_for_checkpoint(tmp_path, first)
    finally:
        kill_group(first)
    done = finish(RUN, environment)
    assert '"resuming"' in done.stdout + done.stderr
    assert losses(tmp_path) == pytest.approx(whole, rel=1e-5)


def test_a_killed_worker_goes_on_to_the_same_losses(
    environment_of: Callable[[Path], dict[str, str]], tmp_path: Path, whole: dict[int, float]
) -> None:
    process = subprocess.Popen(
        RUN, cwd=PROJECT_ROOT, env=environment_of(tmp_path), start_new_session=True, stderr=subprocess.PIPE
    )
    try:
        wait_for_checkpoint(tmp_path, process)
        (worker,) = (
            child
            for child in psutil.Process(process.pid).children(recursive=True)
            if any("RayTrainWorker" in part for part in child.cmdline())
        )
        worker.kill()
        _, errors = process.communicate(timeout=PATIENCE_S)
    finally:
        kill_group(process)
    assert process.returncode == 0, errors.decode()[-4000:]
    assert b'"resuming"' in errors
    assert losses(tmp_path) == pytest.approx(whole, rel=1e-5)


def test_a_run_that_the_clock_stops_goes_on_to_the_same_losses(
    environment_of: Callable[[Path], dict[str, str]], tmp_path: Path, whole: dict[int, float]
) -> None:
    environment = environment_of(tmp_path)
    stopped = finish((*RUN, "--stop-after", "1s"), environment)
    assert "run the same command again to go on" in stopped.stdout
    assert not (tmp_path / "training" / "smoke" / "metrics.json").exists()
    assert sorted(losses(tmp_path)) == [1]
    finish((*RUN, f"storage_path={(tmp_path / 'training').as_uri()}"), environment)
    assert losses(tmp_path) == pytest.approx(whole, rel=1e-5)


def test_a_loss_that_is_no_number_ends_the_run_at_once(
    environment_of: Callable[[Path], dict[str, str]], tmp_path: Path
) -> None:
    done = run((*RUN, "base_model=poisoned"), environment_of(tmp_path))
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: step 1: the loss is nan over row ")
    assert (done.stdout + done.stderr).count("Started training worker group") == 1


@pytest.mark.parametrize(
    "settings",
    [("deepspeed_stage=2", "num_workers=2"), ("num_workers=[1, 2]",)],
    ids=["zero-2", "elastic"],
)
def test_two_workers_train_one_adapter(
    environment_of: Callable[[Path], dict[str, str]], tmp_path: Path, settings: tuple[str, ...]
) -> None:
    done = finish((*COMMAND, *settings, "samples=0"), environment_of(tmp_path))
    assert "size 2" in done.stdout + done.stderr
    run = tmp_path / "training" / "smoke"
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["steps"] == 2
    assert 0 < metrics["validation_loss"] < 20
    assert (run / "adapter" / "adapter_model.safetensors").is_file()
