"""How long a rank sweep takes: packed over one base, against the same trainings one after another.

python -m scripts.bench_packed --rows 2,8 --rounds 3 --out docs/benchmarks/packed.md

All arms learn the same: same rows in the same order, same first weights, same schedule, as many conversations per
step, all of them in one pass (the largest batch there is), packed into sequences, and logits of the learned tokens
only. What differs is who trains:

- ``pack``: all adapters at once (``train_jobs.packed``)
- ``pack, halving``: the same, and at each of ``--rungs`` the worse half of them is stopped, as ASHA means to do with
  a reduction factor of 2
- ``pack of one``: the same trainer, one adapter after another
- ``PEFT``: PEFT's own layers and PyTorch's fused AdamW, one adapter after another

The base is loaded before the clock starts, in all arms; the validation that finds the winner is timed.
"""

from __future__ import annotations

import argparse
import math
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from core.errors import ArtistMindError, ConfigurationError
from core.settings import get_settings
from loadtest.machine import describe_machine
from scripts.bench_report import deliver, spread, table_row, turn_order
from train_jobs.packed.pack import Pack
from train_jobs.packed.settings import SlotSettings
from train_jobs.qlora.config import DataConfig, QLoraConfig
from train_jobs.qlora.data import EncodedRow, Split, load_conversations, prepare_split

PACK, HALVING, ONE, PEFT = "pack", "pack, halving", "pack of one", "PEFT"
ARMS = (PACK, HALVING, ONE, PEFT)


@dataclass(frozen=True, slots=True)
class Options:
    """What is measured."""

    base: str
    character: str
    conversations: int
    max_length: int
    ranks: tuple[int, ...]
    learning_rate: float
    rows: tuple[int, ...]
    """Conversations per step; the comparison is made for each of these."""

    steps: int
    rounds: int
    rungs: tuple[float, ...]
    """Percent of the steps after which the worse half is stopped."""

    attention: str
    device: str
    threads: int
    cache_dequantized: bool
    bf16_adapters: bool
    arms: tuple[str, ...]
    out: Path | None
    command: str
    """What repeats it."""

    def adapters(self, rows: int, steps: int | None = None) -> list[SlotSettings]:
        """One adapter per rank; alpha is twice the rank."""
        shared = {"learning_rate": self.learning_rate, "steps": steps or self.steps, "rows_per_step": rows}
        return [SlotSettings(name=f"r{rank}", rank=rank, alpha=2 * rank, **shared) for rank in self.ranks]


@dataclass(frozen=True, slots=True)
class Sweep:
    """One sweep of one arm."""

    seconds: float
    tokens: int
    """Real tokens that were learned from."""

    losses: dict[str, float]
    """Validation loss at the end, by adapter; of a stopped one, where it was stopped."""


Arm = Callable[[Sequence[SlotSettings]], Sweep]


def arms(options: Options, data: Split) -> dict[str, Arm]:
    """Load a base for each wanted arm."""
    from train_jobs.packed.base import load_frozen

    def pack(slots: int) -> Pack:
        return Pack.load(
            options.base,
            slots=slots,
            max_rank=max(options.ranks),
            max_length=options.max_length,
            attention=options.attention,
            device=options.device,
            cache_dequantized=options.cache_dequantized,
            bf16_adapters=options.bf16_adapters,
        )

    def bare() -> Any:
        return load_frozen(options.base, quantize=True, bf16=True, attention=options.attention, device=options.device)

    makers: dict[str, Callable[[], Arm]] = {
        PACK: lambda: partial(together, pack(len(options.ranks)), data),
        HALVING: lambda: partial(halving, pack(len(options.ranks)), options.rungs, data),
        ONE: lambda: partial(in_turn, partial(together, pack(1), data)),
        PEFT: lambda: partial(in_turn, partial(with_peft, bare(), options.bf16_adapters, data)),
    }
    return {name: makers[name]() for name in options.arms}


def together(pack: Pack, data: Split, adapters: Sequence[SlotSettings]) -> Sweep:
    """All adapters in one pack, to their end."""
    began, tokens = time.perf_counter(), 0
    for settings in adapters:
        pack.start(settings, data.train, data.validation)
    while pack.running:
        tokens += sum(result.tokens for result in pack.step().values())
    losses = pack.evaluate(pack.held)
    seconds = time.perf_counter() - began
    for settings in adapters:
        pack.stop(settings.name)
    return Sweep(seconds, tokens, losses)


def halving(pack: Pack, rungs: Sequence[float], data: Split, adapters: Sequence[SlotSettings]) -> Sweep:
    """All adapters in one pack; the worse half leaves at each rung."""
    began, tokens = time.perf_counter(), 0
    losses: dict[str, float] = {}
    steps = adapters[0].steps
    stops = {round(steps * rung / 100) for rung in rungs} - {steps}
    for settings in adapters:
        pack.start(settings, data.train, data.validation)
    for step in range(1, steps + 1):
        tokens += sum(result.tokens for result in pack.step().values())
        if step in stops:
            measured = pack.evaluate(pack.held)
            losses |= measured
            for name in sorted(measured, key=measured.__getitem__)[math.ceil(len(measured) / 2) :]:
                pack.stop(name)
    losses |= pack.evaluate(pack.held)
    seconds = time.perf_counter() - began
    for name in pack.held:
        pack.stop(name)
    return Sweep(seconds, tokens, losses)


def in_turn(train: Arm, adapters: Sequence[SlotSettings]) -> Sweep:
    """One adapter after another."""
    found = [train([settings]) for settings in adapters]
    losses = {name: loss for sweep in found for name, loss in sweep.losses.items()}
    return Sweep(sum(sweep.seconds for sweep in found), sum(sweep.tokens for sweep in found), losses)


def with_peft(model: Any, bf16_adapters: bool, data: Split, adapters: Sequence[SlotSettings]) -> Sweep:
    """One adapter as PEFT, PyTorch and Transformers train it, on packed sequences; products in the packs' type."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import get_cosine_schedule_with_warmup

    from train_jobs.packed.slot import rows_of_step
    from train_jobs.qlora.model import multiply_in_bfloat16

    (settings,) = adapters
    began, tokens = time.perf_counter(), 0
    torch.manual_seed(settings.seed)
    shape = LoraConfig(task_type="CAUSAL_LM", r=settings.rank, lora_alpha=settings.alpha, target_modules="all-linear")
    adapted = get_peft_model(model, shape)
    if bf16_adapters:
        multiply_in_bfloat16(adapted)
    weights = [weight for weight in adapted.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=0.0, fused=True)
    warmup = math.ceil(settings.warmup * settings.steps)
    schedule = get_cosine_schedule_with_warmup(optimizer, warmup, settings.steps)
    for step in range(settings.steps):
        places = rows_of_step(len(data.train), settings.rows_per_step, settings.seed, step)
        rows = [data.train[place] for place in places]
        losses = target_losses(model, rows)
        losses.mean().backward()
        torch.nn.utils.clip_grad_norm_(weights, settings.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        tokens += sum(len(row.input_ids) for row in rows)
    loss = validation_loss(model, data.validation, settings.rows_per_step)
    seconds = time.perf_counter() - began
    adapted.unload()
    return Sweep(seconds, tokens, {settings.name: loss})


def target_losses(model: Any, rows: Sequence[EncodedRow]) -> Any:
    """(targets,) cross-entropies of packed rows; the output layer sees the targets only."""
    from torch.nn.functional import cross_entropy

    from train_jobs.packed.batch import collate

    batch = collate([rows], flat=model.config._attn_implementation == "flash_attention_2", device=model.device)
    output = model.base_model(input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False)
    hidden = output.last_hidden_state.flatten(0, 1).index_select(0, batch.targets)
    return cross_entropy(model.get_output_embeddings()(hidden).float(), batch.labels, reduction="none")


def validation_loss(model: Any, rows: Sequence[EncodedRow], at_once: int) -> float:
    import torch

    ordered = sorted(rows, key=lambda row: len(row.input_ids))
    with torch.no_grad():
        parts = [target_losses(model, ordered[at : at + at_once]) for at in range(0, len(ordered), at_once)]
    return float(torch.cat(parts).mean())


def measure(options: Options, data: Split) -> dict[int, dict[str, list[Sweep]]]:
    """Sweeps by conversations per step and arm. Arms take turns, and each round another one begins."""
    ready = arms(options, data)
    found: dict[int, dict[str, list[Sweep]]] = {}
    for rows in options.rows:
        found[rows] = {name: [] for name in ready}
        for arm in ready.values():
            arm(options.adapters(rows, steps=1))  # first times are slow
        for turn in range(options.rounds):
            for name in turn_order(list(ready), turn):
                sweep = ready[name](options.adapters(rows))
                found[rows][name].append(sweep)
                print(f"{rows} rows, round {turn + 1}, {name}: {sweep.seconds:.1f} s", file=sys.stderr)
    return found


def report(options: Options, validation: int, found: dict[int, dict[str, list[Sweep]]]) -> str:
    """The page."""
    ranks = ", ".join(map(str, options.ranks))
    held = "held" if options.cache_dequantized else "not held"
    kind = "bfloat16" if options.bf16_adapters else "float32"
    lines = [
        "# A rank sweep, packed and one after another",
        "",
        f"`{options.command}`",
        "",
        f"Base `{options.base}` in 4 bits on {describe_machine(os.environ).line()}; {options.threads} threads, "
        f"device {options.device}, attention {options.attention}.",
        f"Ranks {ranks}; {options.steps} steps; {options.rounds} rounds. Adapters are multiplied in {kind}; "
        f"packs: dequantised weights {held}. Halved at {' and '.join(f'{rung:g} %' for rung in options.rungs)}; each "
        f"arm measures {validation} held-out conversations at its end, and where it is halved.",
        "Medians, in brackets the lowest and the highest round; share: of the faster arm that trains one by one.",
        "",
        "| rows per step | arm | makespan, s | real tokens/s | share | validation loss by rank | winner |",
        "|---:|---|---:|---:|---:|---|---|",
    ]
    for rows, by_arm in found.items():
        alone = [median(sweep.seconds for sweep in by_arm[name]) for name in by_arm if name in (ONE, PEFT)]
        lines += [row_of(rows, name, sweeps, min(alone, default=math.nan)) for name, sweeps in by_arm.items()]
    return "\n".join(lines) + "\n"


def row_of(rows: int, name: str, sweeps: Sequence[Sweep], best_alone: float) -> str:
    seconds = [sweep.seconds for sweep in sweeps]
    middle, losses = median(seconds), sweeps[-1].losses
    cells = [
        str(rows),
        name,
        spread(seconds),
        f"{sweeps[-1].tokens / middle:,.0f}",
        f"{middle / best_alone:.2f} ×",
        ", ".join(f"{loss:.4f}" for loss in losses.values()),
        min(losses, key=losses.__getitem__),
    ]
    return table_row(cells)


def numbers(text: str) -> tuple[int, ...]:
    """``16,32`` as numbers."""
    return tuple(int(part) for part in text.split(","))


def percents(text: str) -> tuple[float, ...]:
    """``12.5,25`` as shares of a hundred."""
    found = tuple(float(part) for part in text.split(","))
    if not all(0 < each < 100 for each in found):
        raise argparse.ArgumentTypeError("give numbers between 0 and 100")
    return found


def parse(arguments: Sequence[str] | None) -> Options:
    given_arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(prog="python -m scripts.bench_packed", description=__doc__.splitlines()[0])
    parser.add_argument("--base", default="base", help="name under models/, or a directory")
    parser.add_argument("--character", default="haneul")
    parser.add_argument("--conversations", type=int, default=400, help="composed; a tenth of them is measured on")
    parser.add_argument("--max-length", type=int, default=768)
    parser.add_argument("--ranks", type=numbers, default=(16, 32, 64, 128))
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--rows", type=numbers, default=(2, 8), help="conversations per step, comma-separated")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rungs", type=percents, default=(25.0, 50.0), help="percent of the steps")
    parser.add_argument("--attention", default="eager", help="eager is the fastest on CPUs with bfloat16 units")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--no-cache", dest="cache_dequantized", action="store_false")
    parser.add_argument("--float32-adapters", dest="bf16_adapters", action="store_false")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--out", type=Path, help="Markdown file")
    given = vars(parser.parse_args(given_arguments))
    if min(*given["rows"], given["steps"], given["rounds"]) < 1:
        raise ConfigurationError("--rows, --steps and --rounds must be at least 1")
    command = shlex.join(["python", "-m", "scripts.bench_packed", *given_arguments])
    return Options(**(given | {"arms": tuple(given["arms"]), "command": command}))


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, measure, report. 2: the arguments are wrong; 1: something failed."""
    try:
        options = parse(arguments)
        import torch

        from train_jobs.qlora.model import load_tokenizer

        torch.set_num_threads(options.threads)
        config = QLoraConfig(
            character=options.character, base_model=options.base, data=DataConfig(count=options.conversations)
        )
        found = load_conversations(config, get_settings())
        data = prepare_split(load_tokenizer(config), found, options.max_length)
        page = report(options, len(data.validation), measure(options, data))
    except ArtistMindError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigurationError) else 1
    deliver(page, options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
