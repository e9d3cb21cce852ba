"""All models that ship, one after the other, as the commands that anybody would type."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import ConfigurationError, SetupError
from core.logs import get_logger
from core.settings import PROJECT_ROOT
from data_pipelines.grammar.voices import characters


@dataclass(frozen=True, slots=True)
class Step:
    """One command; ``name`` is what ``--from`` takes."""

    name: str
    arguments: tuple[str, ...]

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", *self.arguments]


def steps(version: str, small_talk: Path | None) -> list[Step]:
    """Tokenizer, base, embedder, reranker; then each character's data set and adapter."""
    talk = (f"small_talk={small_talk}",) if small_talk else ()
    reference = "train_jobs.reference"
    found = [
        Step("tokenizer", (reference, "tokenizer")),
        Step("base", (reference, "base", *talk)),
        Step("embedder", (reference, "embedder", *talk)),
        Step("reranker", (reference, "reranker")),
    ]
    for character in characters():
        config = f"train_jobs/configs/{character}.yaml"
        train = ("train_jobs.qlora", "--config", config, f"version={version}", f"data.version={character}@{version}")
        found += [
            Step(f"data-{character}", ("data_pipelines.build", character, "--version", version)),
            Step(f"adapter-{character}", train),
        ]
    return found


def run(plan: Sequence[Step], first: str | None) -> None:
    """Run the steps from ``first`` on; the first one that fails ends the recipe, and is where to go on from."""
    names = [step.name for step in plan]
    if first is not None and first not in names:
        raise ConfigurationError(f"--from {first}: no such step; there are: {', '.join(names)}")
    for step in plan[names.index(first) if first else 0 :]:
        started = time.monotonic()
        code = subprocess.run(step.command, cwd=PROJECT_ROOT, check=False).returncode
        if code:
            raise SetupError(f"step {step.name} failed ({code}); mend it and go on with --from {step.name}")
        get_logger("reference").info("done", part=step.name, minutes=round((time.monotonic() - started) / 60, 1))
