"""Each adapter of a pack learns what it would have learned alone: as the only one of a pack, and as PEFT trains it.

Losses are compared step by step. Weights are compared by what was learned, the difference from the first weights:
the distance between two runs' updates, as a share of the update's norm. The tolerances are what rounding does. In
float32 sums are added up in another order (found: 1e-6 nats, 3e-5 of the update); in bfloat16 that moves activations
by whole roundings (found: 3e-3 nats, 4 % of the update), and AdamW carries it into the weights, as it looks at little
but the sign of a gradient.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from train_jobs.packed.base import load_frozen
from train_jobs.packed.pack import Pack
from train_jobs.packed.settings import SlotSettings
from train_jobs.packed.slot import rows_of_step
from train_jobs.qlora.data import IGNORED, EncodedRow

torch = pytest.importorskip("torch")

MakeRows = Callable[[int, int], list[EncodedRow]]
MAX_LENGTH = 48


@dataclass(frozen=True)
class Mode:
    """How the base is held, and how far two runs on it may lie apart."""

    name: str
    quantize: bool
    bf16: bool
    loss_tolerance: float
    """In nats, at every step."""

    update_tolerance: float
    """Share of the update's norm."""

    def load(self, base: str) -> Any:
        return load_frozen(base, quantize=self.quantize, bf16=self.bf16, attention="sdpa", device="cpu")

    def pack(self, base: str, slots: int) -> Pack:
        return Pack(self.load(base), base=base, slots=slots, max_rank=16, max_length=MAX_LENGTH)


MODES = (
    Mode("float32", quantize=False, bf16=False, loss_tolerance=1e-5, update_tolerance=1e-3),
    Mode("nf4-float32", quantize=True, bf16=False, loss_tolerance=1e-5, update_tolerance=1e-3),
    Mode("bfloat16", quantize=False, bf16=True, loss_tolerance=0.01, update_tolerance=0.1),
    Mode("nf4-bfloat16", quantize=True, bf16=True, loss_tolerance=0.01, update_tolerance=0.1),
)


@dataclass(frozen=True)
class Run:
    """What a training left behind."""

    losses: list[float]
    weights: dict[str, Any]


def configurations() -> dict[str, SlotSettings]:
    """Three to begin with, and one that takes the place of the first."""
    first = SlotSettings(
        name="first", rank=2, alpha=4, learning_rate=1e-2, weight_decay=0.1, steps=10, rows_per_step=3, seed=1
    )
    wide = SlotSettings(
        name="wide", rank=8, alpha=12, learning_rate=3e-3, max_grad_norm=0.5, steps=10, rows_per_step=5, seed=2
    )
    slow = SlotSettings(
        name="slow", rank=4, alpha=4, learning_rate=2e-2, warmup=0.3, steps=8, rows_per_step=4, accumulation=2, seed=3
    )
    later = SlotSettings(name="later", rank=16, alpha=16, learning_rate=5e-3, steps=6, rows_per_step=4, seed=4)
    return {settings.name: settings for settings in (first, wide, slow, later)}


def packed_runs(pack: Pack, rows: dict[str, list[EncodedRow]], stop_first_after: int) -> dict[str, Run]:
    """All four through one pack; ``first`` is stopped half-way and ``later`` gets its slot."""
    settings = configurations()
    for name in ("first", "wide", "slow"):
        pack.start(settings[name], rows[name], rows[name][:2])
    losses: dict[str, list[float]] = {name: [] for name in settings}
    weights: dict[str, Any] = {}
    while pack.running:
        for name, result in pack.step().items():
            losses[name].append(result.loss)
        if len(losses["first"]) == stop_first_after and "first" in pack.held:
            weights["first"] = pack.state("first")["weights"]
            pack.stop("first")
            pack.start(settings["later"], rows["later"], rows["later"][:2])
    weights |= {name: pack.state(name)["weights"] for name in pack.held}
    return {name: Run(losses[name], weights[name]) for name in settings}


def alone(pack: Pack, settings: SlotSettings, rows: list[EncodedRow], steps: int) -> Run:
    """The same adapter as the only one of a pack."""
    pack.start(settings, rows, rows[:2])
    losses = [pack.step()[settings.name].loss for _ in range(steps)]
    weights = pack.state(settings.name)["weights"]
    pack.stop(settings.name)
    return Run(losses, weights)


def with_peft(model: Any, settings: SlotSettings, rows: list[EncodedRow], steps: int) -> tuple[Run, dict[str, Any]]:
    """The same adapter as PEFT, PyTorch and Transformers train it, on padded batches; also its first weights."""
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
    from transformers import get_cosine_schedule_with_warmup

    torch.manual_seed(settings.seed)
    shape = LoraConfig(task_type="CAUSAL_LM", r=settings.rank, lora_alpha=settings.alpha, target_modules="all-linear")
    model = get_peft_model(model, shape).train()
    first = {name: weight.clone() for name, weight in get_peft_model_state_dict(model).items()}
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    warmup = math.ceil(settings.warmup * settings.steps)
    schedule = get_cosine_schedule_with_warmup(optimizer, warmup, settings.steps)
    losses = []
    for step in range(steps):
        places = rows_of_step(len(rows), settings.rows_per_step, settings.seed, step)
        ids, mask, labels = padded([rows[place] for place in places])
        logits = model(input_ids=ids, attention_mask=mask).logits.float()
        loss = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, settings.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return Run(losses, get_peft_model_state_dict(model)), first


def padded(rows: Sequence[EncodedRow]) -> tuple[Any, Any, Any]:
    """One conversation a line, filled up on the right: (rows, longest) ids, mask and labels."""
    width = max(len(row.input_ids) for row in rows)
    fill = [width - len(row.input_ids) for row in rows]
    ids = torch.tensor([row.input_ids + [0] * more for row, more in zip(rows, fill, strict=True)])
    mask = torch.tensor([[1] * (width - more) + [0] * more for more in fill])
    labels = torch.tensor([row.labels + [IGNORED] * more for row, more in zip(rows, fill, strict=True)])
    return ids, mask, labels


def distance(found: dict[str, Any], wanted: dict[str, Any], first: dict[str, Any]) -> float:
    """Norm of the difference of two runs' updates, as a share of the wanted one's."""
    assert found.keys() == wanted.keys() == first.keys()
    apart = torch.cat([(found[name] - wanted[name]).flatten() for name in wanted])
    update = torch.cat([(wanted[name] - first[name]).flatten() for name in wanted])
    return float(apart.norm() / update.norm())


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_an_adapter_of_a_pack_learns_what_it_learns_alone(mode: Mode, base: str, make_rows: MakeRows) -> None:
    rows = {name: make_rows(12, settings.seed) for name, settings in configurations().items()}
    runs = packed_runs(mode.pack(base, slots=3), rows, stop_first_after=5)
    single = mode.pack(base, slots=1)
    for name, settings in configurations().items():
        steps = len(runs[name].losses)
        peft, first = with_peft(mode.load(base), settings, rows[name], steps)
        for other in (alone(single, settings, rows[name], steps), peft):
            assert runs[name].losses == pytest.approx(other.losses, abs=mode.loss_tolerance, rel=0)
            assert distance(runs[name].weights, other.weights, first) < mode.update_tolerance


def test_all_four_run_to_their_end(base: str, make_rows: MakeRows) -> None:
    rows = {name: make_rows(12, settings.seed) for name, settings in configurations().items()}
    runs = packed_runs(MODES[0].pack(base, slots=3), rows, stop_first_after=5)
    assert {name: len(run.losses) for name, run in runs.items()} == {"first": 5, "wide": 10, "slow": 8, "later": 6}
    assert all(run.losses[-1] < run.losses[0] for run in runs.values())
