"""The fine-tuning job for real, on a random Llama with our tokenizer: alone and submitted."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.manifest import read_manifest
from adapters.store import file_hashes
from core.settings import PROJECT_ROOT
from tests.integration.training_runs import PATIENCE_S, finish, ray_cluster

pytest.importorskip("trl")
pytestmark = [pytest.mark.training, pytest.mark.slow, pytest.mark.timeout(900)]

SMOKE = "train_jobs/configs/smoke.yaml"


def command(*overrides: str) -> list[str]:
    return [sys.executable, "-m", "train_jobs.qlora", "--config", SMOKE, "base_model=micro", *overrides]


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
    finish(command("max_steps=24", "publish=true", "wandb_mode=offline"), environment)
    assert_published(home, steps=24)
    assert_loads_with_peft(home / "adapters" / "haneul" / "v1", models / "micro")
    assert list((home / "training" / "smoke" / "wandb").glob("offline-run-*"))


@pytest.fixture
def head(environment: dict[str, str]) -> Iterator[str]:
    """A Ray head of the test's own; the address of its job server."""
    with ray_cluster(environment, cpus=2) as cluster:
        yield cluster.jobs


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
