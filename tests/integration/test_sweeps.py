"""Sweeps for real, on a random Llama with our tokenizer: in a pack and solo, stopped, failed, killed and resumed."""

import json
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.settings import get_settings
from tests.integration.training_runs import PATIENCE_S, kill_group, run, start
from train_jobs.config import load_config
from train_jobs.qlora.config import QLoraConfig
from tune_sweeps.run import main

pytest.importorskip("trl")
pytestmark = [pytest.mark.training, pytest.mark.slow, pytest.mark.timeout(1800)]

GOOD, USELESS = 5e-3, 1e-9
TRAINING = {
    "config": "train_jobs/configs/smoke.yaml",
    "overrides": {"base_model": "micro", "data": {"count": 30}, "max_length": 512},
    "trials": {"max_steps": 8},
}


def write(path: Path, axes: dict[str, list[Any]], **more: Any) -> Path:
    """A sweep of a few steps over a few conversations, one trial after the other."""
    settings = {
        "training": TRAINING,
        "name": "try",
        "axes": axes,
        "pack": {"slots": 1},
        "devices": {"cpus": 1},
        "max_concurrent": 1,
        "asha": {"grace": 20, "reduction_factor": 2},
        "report_every": 2,
        "samples": 2,
        "reply_tokens": 4,
        "rule": {"speech_slack": 1, "persona_slack": 1},  # a random model's replies say nothing
        "wandb_mode": "disabled",
        **more,
    }
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def command(axis: str, config: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "tune_sweeps.run", axis, "--config", str(config), *more]


def trials(folder: Path) -> dict[str, dict[str, Any]]:
    lines = (folder / "trials.jsonl").read_text(encoding="utf-8").splitlines()
    return {found["name"]: found for found in map(json.loads, lines)}


def steps(trial: dict[str, Any]) -> list[int]:
    return [point["step"] for point in trial["curve"]]


def checkpoint(folder: Path, step: int) -> Path | None:
    """A trial's checkpoint, once it has done so many steps."""
    for file in folder.glob("checkpoint_*/curve.json"):
        try:
            if json.loads(file.read_text(encoding="utf-8"))[-1]["step"] >= step:
                return file.parent
        except (ValueError, FileNotFoundError):  # is being written, or was just replaced
            continue
    return None


def wait_for_state(tune: Path, since: float) -> None:
    """Tune notes every second checkpoint at once, and all else every ten seconds."""
    deadline = time.monotonic() + 30
    while not any(file.stat().st_mtime > since for file in tune.glob("experiment_state-*.json")):
        assert time.monotonic() < deadline, "Tune has not noted the checkpoint"
        time.sleep(0.05)


def killed_after(line: list[str], environment: dict[str, str], trial: Path, step: int) -> Path:
    """Run a sweep until a trial has a checkpoint of that step, and kill it; the checkpoint."""
    process = start(line, environment)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while (found := checkpoint(trial, step)) is None:
            assert process.poll() is None, "the sweep ended before it was to be killed"
            assert time.monotonic() < deadline, "no checkpoint was written"
            time.sleep(0.05)
        wait_for_state(trial.parent, (found / "curve.json").stat().st_mtime)
    finally:
        kill_group(process)
    return found


def test_a_packed_sweep_is_killed_goes_on_and_stops_who_is_behind(
    environment: dict[str, str], models: Path, tmp_path: Path
) -> None:
    config = write(tmp_path / "sweep.yaml", {"learning_rate": [GOOD, USELESS, 2e-3]}, trainable="packed")
    folder = tmp_path / "home" / "sweeps" / "try" / "learning_rate"
    first_trial = folder / "tune" / f"learning_rate-{GOOD}-s0"
    done = killed_after(command("lr", config), environment, first_trial, 8)
    assert not (folder / "best.yaml").exists()
    weights = (done / "adapter_model.safetensors").read_bytes()

    refused = run(command("lr", config), environment)
    assert (refused.returncode, "--resume" in refused.stderr) == (2, True)
    other = run(command("lr", config, "samples=3", "--resume"), environment)
    assert (other.returncode, "other settings (samples)" in other.stderr) == (2, True)

    again = run(command("lr", config, "--resume"), environment)
    assert again.returncode == 0, again.stderr[-3000:]
    found = trials(folder)
    good = found[f"learning_rate-{GOOD}-s0"]
    assert (good["status"], steps(good)) == ("finished", [2, 4, 6, 8])
    assert (Path(good["adapter"]) / "adapter_model.safetensors").read_bytes() == weights
    useless = found[f"learning_rate-{USELESS}-s0"]
    assert (useless["status"], steps(useless)) == ("stopped", [2])
    assert len(found["learning_rate-0.002-s0"]["curve"]) >= 1, "the freed slot went to nobody"
    assert_best(folder, models, good)

    once_more = run(command("lr", config, "--resume"), environment)
    assert (once_more.returncode, once_more.stdout.strip()) == (0, str(folder / "best.yaml"))


def assert_best(folder: Path, models: Path, good: dict[str, Any]) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    best = load_config(QLoraConfig, folder / "best.yaml")
    assert (best.learning_rate, best.max_steps, best.base_model) == (GOOD, 2, "micro")
    page = (folder / "report.md").read_text(encoding="utf-8")
    assert f"**Best: learning_rate = {GOOD}.**" in page
    assert "stopped by ASHA" in page
    measured = json.loads((folder / "measured" / f"{good['name']}.json").read_text(encoding="utf-8"))
    assert len(measured["replies"]) == 2
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(models / "micro"), good["adapter"])
    assert any(float(p.abs().max()) > 0 for name, p in model.named_parameters() if "lora_B" in name)


def test_a_solo_trial_that_fails_is_reported_and_the_others_go_on(
    environment: dict[str, str], tmp_path: Path
) -> None:
    config = write(tmp_path / "sweep.yaml", {"learning_rate": [1e30, GOOD]}, wandb_mode="offline")
    done = run(command("learning_rate", config), environment)
    assert done.returncode == 0, done.stderr[-3000:]
    folder = tmp_path / "home" / "sweeps" / "try" / "learning_rate"
    found = trials(folder)
    assert found["learning_rate-1e+30-s0"]["status"] == "failed"
    assert found["learning_rate-1e+30-s0"]["reason"]
    assert (found[f"learning_rate-{GOOD}-s0"]["status"], steps(found[f"learning_rate-{GOOD}-s0"])) == (
        "finished",
        [2, 4, 6, 8],
    )
    page = (folder / "report.md").read_text(encoding="utf-8")
    assert "failed: step 2: the validation loss is nan" in page
    assert load_config(QLoraConfig, folder / "best.yaml").learning_rate == GOOD
    assert list(folder.glob("wandb/offline-run-*"))


def test_a_solo_trial_that_was_killed_goes_on_from_its_checkpoint(
    environment: dict[str, str], tmp_path: Path
) -> None:
    config = write(tmp_path / "sweep.yaml", {"rank": [4, 8]}, training={**TRAINING, "trials": {"max_steps": 40}})
    folder = tmp_path / "home" / "sweeps" / "try" / "rank"
    trial = folder / "tune" / "rank-4-s0"
    killed_after(command("rank", config), environment, trial, 4)
    kept = checkpoint(trial, 4)
    assert kept is not None
    before = json.loads((kept / "curve.json").read_text(encoding="utf-8"))
    again = run(command("rank", config, "--resume"), environment)
    assert again.returncode == 0, again.stderr[-3000:]
    found = trials(folder)["rank-4-s0"]
    assert (found["status"], steps(found)) == ("finished", list(range(2, 41, 2)))
    assert found["curve"][:2] == before[:2], "it began anew"
    assert all(a["seconds"] < b["seconds"] for a, b in pairwise(found["curve"]))
    page = (folder / "report.md").read_text(encoding="utf-8")
    assert "## Rank against memory" in page


def test_all_carries_each_winner_into_the_next_axis(environment: dict[str, str], tmp_path: Path) -> None:
    axes = {"rank": [4, 8], "learning_rate": [USELESS, GOOD]}
    more = {"trainable": "packed", "pack": {"slots": 2}, "max_concurrent": 2, "asha": {"enabled": False}}
    config = write(tmp_path / "sweep.yaml", axes, **more)
    done = run(command("all", config), environment)
    assert done.returncode == 0, done.stderr[-3000:]
    folder = tmp_path / "home" / "sweeps" / "try"
    assert done.stdout.strip().endswith(str(folder / "best.yaml"))
    tried = trials(folder / "rank").values()
    assert [one["config"]["learning_rate"] for one in tried] == [GOOD, GOOD]
    assert {one["status"] for one in tried} == {"finished"}
    best = load_config(QLoraConfig, folder / "best.yaml")
    assert (best.learning_rate, best.alpha) == (GOOD, 2 * best.rank)
    assert best == load_config(QLoraConfig, folder / "rank" / "best.yaml")
    page = (folder / "report.md").read_text(encoding="utf-8")
    assert page.index(f"| learning_rate | {GOOD} |") < page.index(f"| rank | {best.rank} |")


@pytest.mark.parametrize(
    ("axis", "more", "said"),
    [
        ("ranks", [], "'ranks' is no axis"),
        ("rank", ["axes.rank=[4,0]"], "greater than or equal to 1"),
        ("rank", ["served_by=serve_local.yaml", "axes.rank=[32,128]"], "every rank is above the max_lora_rank 16"),
        ("rank", ["training.overrides.target_modules=[q_proj,w_proj]"], "has no layer w_proj"),
        ("ratio", ["axes.ratio=['6:2:2','1:1:1']"], "only a data set version can be mixed"),
        (
            "ratio",
            ["axes.ratio=['6:2:2','1:1:1']", "training.overrides.data={version: haneul@v9}"],
            "no data set version",
        ),
        ("base_model", ["axes.base_model=[micro,nowhere]"], "there is no 'nowhere'"),
        ("rank", ["sample=3"], "sample: there is no such setting"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_started(
    axis: str,
    more: list[str],
    said: str,
    models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import ray

    monkeypatch.setenv("ARTISTMIND_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ARTISTMIND_MODELS_DIR", str(models))
    get_settings.cache_clear()
    config = write(tmp_path / "sweep.yaml", {"rank": [4, 8]})
    try:
        assert main([axis, "--config", str(config), *more]) == 2
    finally:
        get_settings.cache_clear()
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert said in errors[0]
    assert not ray.is_initialized()
    assert not (tmp_path / "home" / "sweeps").exists()
