"""A run that is interrupted, by a killed driver, a killed worker or the clock, learns what a whole one learns."""

import json
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.integration.training_runs import PATIENCE_S, environment_of, finish, kill_group, ray_cluster, run, start

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

# Two workers where there is room for two. Without dropout, whose numbers each worker draws for itself, and with 24
# rows: of an odd number two workers would see one twice in the last step of an epoch.
ELASTIC = (
    *COMMAND,
    "num_workers=[1, 2]",
    "data.count=25",
    "batch_size=1",
    f"max_steps={STEPS}",
    "save_every=12",
    "samples=0",
)


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


@pytest.fixture(scope="module")
def whole(models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, float]:
    """The losses of a run that nothing interrupts."""
    home = tmp_path_factory.mktemp("whole")
    finish(RUN, environment_of(home, models))
    found = losses(home)
    assert sorted(found) == list(range(1, STEPS + 1))
    assert len(set(found.values())) > STEPS // 2, "losses that are all alike would prove nothing"
    return found


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_a_killed_driver_goes_on_to_the_same_losses(
    environment: dict[str, str], home: Path, whole: dict[int, float]
) -> None:
    first = start(RUN, environment)
    try:
        wait_for_checkpoint(home, first)
    finally:
        kill_group(first)
    done = finish(RUN, environment)
    assert '"resuming"' in done.stdout + done.stderr
    assert losses(home) == pytest.approx(whole, rel=1e-5)


def train_workers(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    """Ray Train's workers below a process."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # ended meanwhile, or a zombie
            if any("RayTrainWorker" in part for part in child.cmdline()):
                found.append(child)
    return found


def test_a_killed_worker_goes_on_to_the_same_losses(
    environment: dict[str, str], home: Path, whole: dict[int, float]
) -> None:
    process = start(RUN, environment, stderr=subprocess.PIPE)
    try:
        wait_for_checkpoint(home, process)
        (worker,) = train_workers(process)
        worker.kill()
        _, errors = process.communicate(timeout=PATIENCE_S)
    finally:
        kill_group(process)
    assert process.returncode == 0, errors.decode()[-4000:]
    assert b'"resuming"' in errors
    assert losses(home) == pytest.approx(whole, rel=1e-5)


def test_a_lost_node_leaves_a_smaller_run_with_the_same_losses(environment: dict[str, str], tmp_path: Path) -> None:
    """One worker on each of two nodes, and then both workers' rows for the one that is left: the same sums, but added
    in another order, hence to a thousandth."""
    whole = finish(ELASTIC, environment | {"ARTISTMIND_HOME": str(tmp_path / "whole")})
    assert "size 2" in whole.stdout + whole.stderr
    with ray_cluster(environment, cpus=0, nodes=2) as cluster:
        process = start(ELASTIC, environment | {"RAY_ADDRESS": cluster.address}, stderr=subprocess.PIPE)
        try:
            wait_for_checkpoint(tmp_path / "home", process)
            kill_group(next(node for node in cluster.nodes if train_workers(node)))
            _, errors = process.communicate(timeout=PATIENCE_S)
        finally:
            kill_group(process)
    assert process.returncode == 0, errors.decode()[-4000:]
    assert b"size 2" in errors
    assert b"size 1" in errors
    assert b'"resuming"' in errors
    assert losses(tmp_path / "home") == pytest.approx(losses(tmp_path / "whole"), rel=1e-3)


def test_a_run_that_the_clock_stops_goes_on_to_the_same_losses(
    environment: dict[str, str], home: Path, whole: dict[int, float]
) -> None:
    stopped = finish((*RUN, "--stop-after", "1s"), environment)
    assert "run the same command again to go on" in stopped.stdout
    assert not (home / "training" / "smoke" / "metrics.json").exists()
    assert sorted(losses(home)) == [1]
    finish((*RUN, f"storage_path={(home / 'training').as_uri()}"), environment)
    assert losses(home) == pytest.approx(whole, rel=1e-5)
    # Killed after the last checkpoint: nothing is left to learn, and not one step more is made.
    learned = (home / "training" / "smoke" / "adapter" / "adapter_model.safetensors").read_bytes()
    (home / "training" / "smoke" / "metrics.json").unlink()
    finish(RUN, environment)
    assert losses(home) == pytest.approx(whole, rel=1e-5)
    assert (home / "training" / "smoke" / "adapter" / "adapter_model.safetensors").read_bytes() == learned


def test_a_loss_that_is_no_number_ends_the_run_at_once(environment: dict[str, str], home: Path) -> None:
    done = run((*RUN, "base_model=poisoned"), environment)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: step 1: the loss is nan over row ")
    assert (done.stdout + done.stderr).count("Started training worker group") == 1


def test_two_workers_share_gradients_and_optimiser(environment: dict[str, str], home: Path) -> None:
    done = finish((*COMMAND, "deepspeed_stage=2", "num_workers=2", "samples=0"), environment)
    assert "size 2" in done.stdout + done.stderr
    folder = home / "training" / "smoke"
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["steps"] == 2
    assert 0 < metrics["validation_loss"] < 20
    assert (folder / "adapter" / "adapter_model.safetensors").is_file()
