"""All models that ship, one after the other, as the commands that anybody would type."""

from __future__ import annotations

import os
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

AT_ONCE = 2
"""Adapters that are trained at the same time, a core each: the small base gains little from a second one."""


@dataclass(frozen=True, slots=True)
class Step:
    """Commands that run at the same time; ``name`` is what ``--from`` takes."""

    name: str
    commands: tuple[tuple[str, ...], ...]
    """A module and its arguments each."""

    threads: int | None = None
    """Of each command; ``None`` leaves it to the command."""

    def started(self) -> list[subprocess.Popen[bytes]]:
        """All commands, running."""
        threads = {"OMP_NUM_THREADS": str(self.threads)} if self.threads else {}
        return [
            subprocess.Popen([sys.executable, "-m", *command], cwd=PROJECT_ROOT, env=os.environ | threads)
            for command in self.commands
        ]


def steps(version: str, small_talk: Path | None) -> list[Step]:
    """Tokenizer, base, embedder, reranker, classifier; then the characters' data sets and adapters, two at a time."""
    talk = (f"small_talk={small_talk}",) if small_talk else ()
    reference = "train_jobs.reference"
    found = [
        Step("tokenizer", ((reference, "tokenizer"),)),
        Step("base", ((reference, "base", *talk),)),
        Step("embedder", ((reference, "embedder", *talk),)),
        Step("reranker", ((reference, "reranker"),)),
        Step("crisis", (("train_jobs.crisis",),)),
    ]
    names = characters()
    for pair in (names[at : at + AT_ONCE] for at in range(0, len(names), AT_ONCE)):
        data = tuple(("data_pipelines.build", character, "--version", version) for character in pair)
        adapters = tuple(_adapter(character, version) for character in pair)
        found += [
            Step(f"data-{'-'.join(pair)}", data),
            Step(f"adapters-{'-'.join(pair)}", adapters, threads=1),
        ]
    return found


def _adapter(character: str, version: str) -> tuple[str, ...]:
    config = f"train_jobs/configs/{character}.yaml"
    settings = (f"version={version}", f"data.version={character}@{version}", "cpus_per_worker=1")
    return ("train_jobs.qlora", "--config", config, *settings)


def run(plan: Sequence[Step], first: str | None) -> None:
    """Run the steps from ``first`` on; the first one that fails ends the recipe, and is where to go on from."""
    names = [step.name for step in plan]
    if first is not None and first not in names:
        raise ConfigurationError(f"--from {first}: no such step; there are: {', '.join(names)}")
    for step in plan[names.index(first) if first else 0 :]:
        started = time.monotonic()
        codes = [process.wait() for process in step.started()]
        if any(codes):
            raise SetupError(f"step {step.name} failed {codes}; mend it and go on with --from {step.name}")
        get_logger("reference").info("done", part=step.name, minutes=round((time.monotonic() - started) / 60, 1))
