"""How fast the fine-tuning job is: against plain TRL, packed against unpacked, and what Ray Train adds to a step.

python -m scripts.bench_training --rounds 3 --out docs/benchmarks/training.md
python -m scripts.bench_training --config train_jobs/configs/haneul.yaml batch_size=4 data.version=haneul@v2

All arms train the same adapter on the same base with the same settings; what differs is who trains:

- ``TRL``: TRL's ``SFTTrainer`` with PEFT, without anything of ours but the settings
- ``job``: the job's trainer on one worker, without Ray Train around it
- ``job, packed``: the same, with several conversations in one sequence
- ``job under Ray Train``: the whole job, with Ray Train and one worker

Real tokens are counted as the job counts them: no padding, seconds of optimiser steps only, without validation and
checkpoints. The arms that do not pack learn from the same conversations, as many as fill the counted steps in one
pass: the job puts rows of like length together and TRL shuffles, so that of a part of a pass one arm would see longer
rows than the other. The steps that are not counted are the first ones of the pass; as many of a second pass take
their place. A packed step holds more conversations: that arm packs all of the data, as the job would.
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import mean, median

from core.errors import ArtistMindError, ConfigurationError
from core.logs import setup_logging
from core.settings import PROJECT_ROOT, get_settings
from loadtest.machine import Machine, describe_machine
from scripts.bench_report import deliver, spread, table_row, turn_order
from scripts.training_arms import ARMS, JOB, PACKED, RAY, TRL, Run, run_alone
from train_jobs.config import load_config
from train_jobs.qlora.config import QLoraConfig
from train_jobs.qlora.data import EncodedRow, Split
from train_jobs.qlora.job import QLoraJob, prepare

VALIDATION_ROWS = 8
"""Validation is in no step; so many conversations are enough to let the job do it."""

OVERRIDES = "settings that replace the file's, such as base_model=base; what the measurement sets itself stays"
PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "ray")

Rounds = Mapping[str, Sequence[Run]]
"""By arm, a run for each round."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is measured."""

    config: Path
    overrides: tuple[str, ...]
    steps: int
    warm_up: int
    rounds: int
    threads: int
    arms: tuple[str, ...]
    out: Path
    command: str
    """What repeats it."""

    def settings(self) -> QLoraConfig:
        """The job's settings, unpacked. What the measurement depends on cannot be overridden.

        Raises:
            ConfigurationError: The settings are wrong, or cannot be compared.
        """
        total = self.steps + self.warm_up
        fixed = {
            "packing": "false",
            "max_steps": total,
            "log_every": 1,  # an entry a step: the log is what is measured
            "save_every": total,
            "save_minutes": "null",
            "num_workers": 1,
            "cpus_per_worker": self.threads,
            "samples": 0,
            "publish": "false",
            "tracker": "none",
        }
        config = load_config(
            QLoraConfig, self.config, [*self.overrides, *(f"{key}={value}" for key, value in fixed.items())]
        )
        if config.deepspeed_stage:
            raise ConfigurationError("deepspeed_stage: DeepSpeed needs Ray Train's workers; compare without it")
        return config


@dataclass(frozen=True, slots=True)
class Target:
    """What an arm shall reach, measured against another one in the same round."""

    what: str
    arm: str
    against: str
    least: float | None = None
    """Of the ratio of real tokens/s."""

    most: float = 0.0
    """Without ``least``: what may be added to the seconds of a step, as a share."""

    def value(self, run: Run, other: Run) -> float:
        if self.least is not None:
            return run.tokens_per_s / other.tokens_per_s
        return 100 * (run.step_s / other.step_s - 1)

    def row(self, found: Rounds) -> str:
        """The table's line."""
        pairs = zip(found[self.arm], found[self.against], strict=True)
        values = [self.value(run, other) for run, other in pairs]
        if self.least is not None:
            met = median(values) >= self.least
            return table_row([self.what, spread(values, ".2f", " ×"), f"≥ {self.least:.1f} ×", said(met)])
        met = median(values) <= 100 * self.most
        return table_row([self.what, spread(values, "+.1f", " %"), f"≤ {100 * self.most:.0f} %", said(met)])


TARGETS = (
    Target("job against TRL, real tokens/s", JOB, TRL, least=1.0),
    Target("packed against unpacked, real tokens/s", PACKED, JOB, least=1.5),
    Target("what Ray Train adds to a step", RAY, JOB, most=0.03),
)


def said(met: bool) -> str:
    return "met" if met else "**missed**"


def jobs(options: Options) -> dict[str, QLoraJob]:
    """The checked job of each wanted arm, with its rows. Composed and encoded once, and not timed."""
    config = options.settings()
    job = prepare(config, get_settings())
    rows = options.steps * config.batch_size * config.accumulation
    plain = replace(job, split=part_of(job.split, rows, config.seed))
    packed = replace(
        job,
        config=config.model_copy(update={"packing": True}),
        split=part_of(job.split, len(job.split.train), config.seed),
    )
    return {arm: packed if arm == PACKED else plain for arm in options.arms}


def part_of(split: Split, rows: int, seed: int) -> Split:
    """Some of the conversations, drawn at random: a data set version may be sorted."""
    if rows > len(split.train):
        raise ConfigurationError(
            f"data: a pass of the counted steps needs {rows} conversations and there are {len(split.train)}: give "
            "more (data.count), or fewer --steps"
        )
    return Split(drawn(split.train, rows, seed), drawn(split.validation, VALIDATION_ROWS, seed), split.too_long)


def drawn(rows: Sequence[EncodedRow], count: int, seed: int) -> tuple[EncodedRow, ...]:
    return tuple(random.Random(seed).sample(rows, min(count, len(rows))))


def measure(options: Options, ready: Mapping[str, QLoraJob]) -> dict[str, list[Run]]:
    """Runs by arm. Arms take turns, and each round another one begins."""
    found: dict[str, list[Run]] = {arm: [] for arm in ready}
    for turn in range(options.rounds):
        for arm in turn_order(list(ready), turn):
            run = run_alone(arm, ready[arm], options.warm_up)
            found[arm].append(run)
            print(f"round {turn + 1}, {arm}: {run.tokens_per_s:,.0f} real tokens/s", file=sys.stderr)
    return found


def report(options: Options, ready: Mapping[str, QLoraJob], machine: Machine, found: Rounds) -> str:
    """The page."""
    config = options.settings()
    wanted = [target for target in TARGETS if {target.arm, target.against} <= found.keys()]
    lines = [
        *head(options, config, machine),
        "",
        "| arm | real tokens/s | seconds per step | real tokens per step |",
        "|---|---:|---:|---:|",
        *(speed_row(arm, runs) for arm, runs in found.items()),
        "",
        "Ratios are taken within each round; the target is held against their median.",
        "",
        "| what | measured | target | |",
        "|---|---:|---:|---|",
        *(target.row(found) for target in wanted),
        "",
        "Not in the steps above: *start and end* is everything before the trainer's loop and after it (process, "
        "imports, base; under Ray Train also Ray's start and end and the collected adapter); *rest of the loop* is "
        f"loading rows and logging, and but for TRL two validations on at most {VALIDATION_ROWS} conversations and "
        "a checkpoint.",
        "",
        "| arm | start and end, s | rest of the loop, s |",
        "|---|---:|---:|",
        *(outside_row(arm, runs) for arm, runs in found.items()),
        "",
        *notes(config),
        *(packing_note(ready[PACKED]) for arm in found if arm == PACKED),
    ]
    return "\n".join(lines) + "\n"


def head(options: Options, config: QLoraConfig, machine: Machine) -> list[str]:
    """What was measured, and on what."""
    base = f"`{Path(config.base_model).name}` {'in 4 bits (NF4)' if config.quantize else f'in {config.dtype}'}"
    where = "one GPU" if config.use_gpu else "CPU"
    return [
        "# Speed of the fine-tuning job",
        "",
        f"`{options.command}`",
        "",
        f"Base {base}, character {config.character}, on {machine.line()} (before the first run); {where}, "
        f"{options.threads} threads; {versions()}.",
        f"Batch {config.batch_size}, accumulation {config.accumulation}, at most {config.max_length} tokens, "
        f"attention {config.attention}, computes in {config.dtype}, rank {config.rank}, {config.optimizer} at "
        f"{config.learning_rate:g}, gradient checkpointing {'on' if config.gradient_checkpointing else 'off'}.",
        f"{options.steps} counted steps after {options.warm_up} that are not; {options.rounds} rounds, in which the "
        "arms take turns, each run in a process of its own.",
        "Medians, in brackets the lowest and the highest round. A difference that is smaller than the spread says "
        "nothing.",
    ]


def speed_row(arm: str, runs: Sequence[Run]) -> str:
    cells = [
        arm,
        spread([run.tokens_per_s for run in runs], ",.0f"),
        spread([run.step_s for run in runs], ".3f"),
        f"{median(run.tokens / len(run.counted) for run in runs):,.0f}",
    ]
    return table_row(cells)


def outside_row(arm: str, runs: Sequence[Run]) -> str:
    return table_row([arm, spread([run.around_s for run in runs]), spread([run.between_s for run in runs])])


def notes(config: QLoraConfig) -> list[str]:
    """In what the arms differ beside who trains, as far as it is known."""
    found = [
        "- TRL draws its rows at random. The job puts rows of like length together, which leaves less padding to "
        "compute; among the few rows of this measurement less so than among all.",
        "- All arms but the packed one learn from the same conversations. A packed step learns from more of them: "
        "tokens/s are compared, not steps.",
        "- The tracker is off everywhere.",
    ]
    if config.quantize:
        found.append("- TRL keeps the adapter of a 4-bit base in bfloat16, the job in float32.")
    return found


def packing_note(job: QLoraJob) -> str:
    """How much packing could save at all, with the attention's cost left out."""
    lengths = [len(row.input_ids) for row in job.split.train]
    shuffled = random.Random(job.config.seed).sample(lengths, len(lengths))
    batch = job.config.batch_size
    return (
        f"- What packing can save is padding. The conversations to be packed have {mean(lengths):.0f} tokens on "
        f"average; in batches of {batch} of like length {padding(sorted(lengths), batch):.1%} of what is computed is "
        f"padding, in random ones {padding(shuffled, batch):.1%}."
    )


def padding(lengths: Sequence[int], batch: int) -> float:
    """Share of the tokens that are padding when consecutive rows make a batch."""
    computed = sum(
        max(rows) * len(rows) for at in range(0, len(lengths), batch) if (rows := lengths[at : at + batch])
    )
    return 1 - sum(lengths) / computed


def versions() -> str:
    """The packages that the speed depends on."""
    return ", ".join(f"{name} {found}" for name in PACKAGES if (found := installed(name)))


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def parse(arguments: Sequence[str] | None) -> Options:
    """The options.

    Raises:
        ConfigurationError: A number is too small.
    """
    given_arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(prog="python -m scripts.bench_training", description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=PROJECT_ROOT / "train_jobs" / "configs" / "local.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=OVERRIDES)
    parser.add_argument("--steps", type=int, default=20, help="counted optimiser steps of a run")
    parser.add_argument("--warm-up", type=int, default=3, help="steps before them, which are not counted")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/training.md"), help="Markdown file")
    given = vars(parser.parse_intermixed_args(given_arguments))
    if min(given["steps"], given["rounds"], given["threads"]) < 1 or given["warm_up"] < 0:
        raise ConfigurationError("--steps, --rounds and --threads must be at least 1, --warm-up at least 0")
    command = shlex.join(["python", "-m", "scripts.bench_training", *given_arguments])
    lists = {"arms": tuple(given["arms"]), "overrides": tuple(given["overrides"])}
    return Options(**(given | lists | {"command": command}))


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, measure, report. 2: the arguments are wrong; 1: something failed."""
    try:
        options = parse(arguments)
        # Read by the processes of the runs when they start: all with as many threads, and none with a line a step.
        os.environ["OMP_NUM_THREADS"] = str(options.threads)
        os.environ.setdefault("ARTISTMIND_LOG_LEVEL", "WARNING")
        setup_logging(get_settings())
        machine = describe_machine(os.environ)
        ready = jobs(options)
        page = report(options, ready, machine, measure(options, ready))
    except ArtistMindError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigurationError) else 1
    deliver(page, options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
