"""Slots of a pack: taken, freed, measured, saved and resumed, without a word from the neighbours."""

import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.errors import ConfigurationError
from train_jobs.packed.base import load_frozen
from train_jobs.packed.pack import Pack
from train_jobs.packed.settings import SlotSettings
from train_jobs.packed.slot import StepResult, rows_of_step
from train_jobs.qlora.data import IGNORED, EncodedRow

torch = pytest.importorskip("torch")

MakeRows = Callable[[int, int], list[EncodedRow]]


def load(base: str, **changes: Any) -> Pack:
    given = {"slots": 2, "max_rank": 8, "max_length": 48, "quantize": False, "bf16": False}
    return Pack.load(base, **(given | changes))


def settings(name: str, **changes: Any) -> SlotSettings:
    given = {"name": name, "rank": 4, "alpha": 8, "learning_rate": 1e-2, "steps": 6, "rows_per_step": 3}
    return SlotSettings.model_validate(given | changes)


def curve(pack: Pack, name: str, steps: int) -> list[float]:
    return [pack.step()[name].loss for _ in range(steps)]


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_slot_is_taken_finished_and_freed(base: str, make_rows: MakeRows) -> None:
    pack, rows = load(base), make_rows(8, 0)
    pack.start(settings("short", steps=1), rows, rows[:2])
    pack.start(settings("long", steps=2), rows, rows[:2])
    assert (pack.running, pack.free) == (("short", "long"), 0)
    results = pack.step()
    assert {name: (result.step, result.finished) for name, result in results.items()} == {
        "short": (1, True),
        "long": (1, False),
    }
    assert (pack.running, pack.held, pack.free) == (("long",), ("short", "long"), 0)
    assert set(pack.evaluate(pack.held)) == {"short", "long"}
    pack.stop("short")
    assert (pack.held, pack.free) == (("long",), 1)
    assert list(pack.step()) == ["long"]
    assert pack.step() == {}


def test_steps_report_the_schedule_and_the_real_tokens(base: str, make_rows: MakeRows) -> None:
    pack, rows = load(base), make_rows(3, 0)
    pack.start(settings("a", warmup=0.5, steps=4), rows, rows)
    results: list[StepResult] = [pack.step()["a"] for _ in range(4)]
    # Linear over two steps, then half a cosine: as get_cosine_schedule_with_warmup has it.
    assert [result.learning_rate for result in results] == pytest.approx([0, 5e-3, 1e-2, 5e-3])
    assert {result.tokens for result in results} == {sum(len(row.input_ids) for row in rows)}
    assert all(result.grad_norm > 0 for result in results)


def test_only_the_named_adapters_step(base: str, make_rows: MakeRows) -> None:
    pack, rows = load(base), make_rows(8, 0)
    for name in ("a", "b"):
        pack.start(settings(name), rows, rows[:2])
    assert list(pack.step(["b"])) == ["b"]
    assert {name: result.step for name, result in pack.step().items()} == {"a": 1, "b": 2}


def test_what_cannot_be_started_is_refused_in_one_line(base: str, make_rows: MakeRows) -> None:
    pack, rows = load(base, slots=1), make_rows(4, 0)
    long_row = EncodedRow([], [1] * 49, [1] * 49)
    for wrong, train, message in (
        (settings("a", rank=9), rows, "a: rank 9 is above max_rank 8"),
        (settings("a"), [], "a: give rows to learn from"),
        (settings("a"), [long_row], "49 tokens are more than max_length 48"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            pack.start(wrong, train, rows)
    assert pack.free == 1
    pack.start(settings("a"), rows, rows)
    with pytest.raises(ConfigurationError, match="a: the name is taken"):
        pack.start(settings("a"), rows, rows)
    with pytest.raises(ConfigurationError, match="b: all 1 slots are taken"):
        pack.start(settings("b"), rows, rows)
    for call in (pack.stop, pack.state, lambda name: pack.evaluate([name])):
        with pytest.raises(ConfigurationError, match="ghost: no adapter of that name; there are a"):
            call("ghost")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slots": 0}, "slots 0"),
        ({"target_modules": ["nowhere"]}, "target_modules: Target modules .*nowhere.* not found"),
        ({"target_modules": ["embed_tokens"]}, "embed_tokens is no linear layer"),
        ({"target_modules": ["q_proj", "lm_head"]}, "lm_head is no linear layer within"),
        ({"bf16_adapters": True}, "bf16_adapters: set bf16 with it"),
    ],
)
def test_what_cannot_be_loaded_is_refused_in_one_line(base: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load(base, **changes)


def test_a_base_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match="empty: no model can be loaded from there"):
        load(str(tmp_path / "empty"))


@pytest.mark.parametrize("quantize", [False, True])
def test_the_saved_adapter_answers_alike_under_peft(
    quantize: bool, base: str, make_rows: MakeRows, tmp_path: Path
) -> None:
    from peft import PeftModel

    pack, rows = load(base, quantize=quantize), make_rows(6, 0)
    pack.start(settings("kept", rank=3, dropout=0.1), rows, rows)
    pack.start(settings("other", rank=8), rows, rows)
    for _ in range(6):
        pack.step()
    pack.save("kept", tmp_path / "adapter")
    saved = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert (saved["r"], saved["lora_alpha"], saved["inference_mode"]) == (3, 8, True)
    assert saved["target_modules"] == sorted(saved["target_modules"])

    fresh = load_frozen(base, quantize=quantize, bf16=False, attention="sdpa", device="cpu")
    model = PeftModel.from_pretrained(fresh, tmp_path / "adapter").eval()
    targets = [(row, place) for row in rows for place in range(1, len(row.labels)) if row.labels[place] != IGNORED]
    with torch.no_grad():
        logits = {id(row): model(input_ids=torch.tensor([row.input_ids])).logits[0] for row in rows}
    losses = [-logits[id(row)][place - 1].log_softmax(-1)[row.labels[place]] for row, place in targets]
    assert pack.evaluate(["kept"])["kept"] == pytest.approx(float(torch.stack(losses).mean()), rel=1e-5)
    assert pack.evaluate(["kept"])["kept"] != pytest.approx(pack.evaluate(["other"])["other"], rel=1e-3)


@pytest.mark.slow
def test_vllm_reads_the_saved_adapter(base: str, make_rows: MakeRows, tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    from vllm.lora.lora_model import LoRAModel
    from vllm.lora.peft_helper import PEFTHelper

    pack, rows = load(base), make_rows(4, 0)
    pack.start(settings("a", rank=3, alpha=6), rows, rows)
    pack.step()
    pack.save("a", tmp_path)
    helper = PEFTHelper.from_local_dir(str(tmp_path), max_position_embeddings=48)
    layers = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    loaded = LoRAModel.from_local_checkpoint(str(tmp_path), layers, helper, device="cpu", lora_model_id=1)
    assert (helper.r, helper.vllm_lora_scaling_factor) == (3, 2)
    assert len(loaded.loras) == 14
    weights = pack.state("a")["weights"]
    found = loaded.loras["model.layers.1.mlp.up_proj"].lora_a
    torch.testing.assert_close(found, weights["base_model.model.model.layers.1.mlp.up_proj.lora_A.weight"])


def test_starting_leaves_the_random_state_alone(base: str, make_rows: MakeRows) -> None:
    pack, rows = load(base), make_rows(4, 0)
    before = torch.get_rng_state()
    pack.start(settings("a", seed=7), rows, rows)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_saved_state_goes_on_as_if_nothing_had_happened(base: str, make_rows: MakeRows) -> None:
    rows, wanted = make_rows(8, 0), settings("a", dropout=0.2, weight_decay=0.1)
    whole = load(base)
    whole.start(wanted, rows, rows)
    before = curve(whole, "a", 3)
    state = whole.state("a")
    after = curve(whole, "a", 3)
    final = whole.state("a")["weights"]

    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    resumed = load(base)
    resumed.start(settings("neighbour", seed=9), rows, rows)
    again = wanted.model_copy(update={"name": "again"})
    resumed.restore(again, rows, rows, torch.load(file, weights_only=True))
    assert curve(resumed, "again", 3) == pytest.approx(after, abs=1e-5)
    for name, weight in resumed.state("again")["weights"].items():
        torch.testing.assert_close(weight, final[name], atol=1e-5, rtol=1e-3)
    assert before[0] > after[-1]


def test_a_refused_state_takes_no_slot(base: str, make_rows: MakeRows) -> None:
    pack, rows = load(base), make_rows(8, 0)
    pack.start(settings("a"), rows, rows)
    state = pack.state("a")
    with pytest.raises(ConfigurationError, match="another rank;"):
        pack.restore(settings("b", rank=2), rows, rows, state)
    assert pack.free == 1


def test_a_start_that_fails_late_leaves_the_slot_free(
    base: str, make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack, rows = load(base, slots=1), make_rows(8, 0)

    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    for place in ("train_jobs.packed.pack.Slot", "train_jobs.packed.pack.Slot.load"):
        pack.start(settings("a"), rows, rows)
        state = pack.state("a")
        pack.stop("a")
        with monkeypatch.context() as patched:
            patched.setattr(place, fail)
            with pytest.raises(RuntimeError, match="out of memory"):
                pack.restore(settings("a"), rows, rows, state)
        assert (pack.held, pack.free) == ((), 1)
    pack.restore(settings("a"), rows, rows, state)
    assert pack.step()["a"].step == 1


def test_the_constants_of_the_bits_are_plain_without_double_quantisation(base: str) -> None:
    from bitsandbytes.nn import Linear4bit

    for wanted in (True, False):
        model = load_frozen(base, quantize=True, double_quant=wanted, bf16=True, attention="sdpa", device="cpu")
        nested = {layer.weight.quant_state.nested for layer in model.modules() if isinstance(layer, Linear4bit)}
        assert nested == {wanted}


def test_dropout_is_the_slots_own(base: str, make_rows: MakeRows) -> None:
    rows = make_rows(8, 0)
    wanted = settings("a", dropout=0.3, seed=5)
    single, pair = load(base), load(base)
    single.start(wanted, rows, rows)
    pair.start(settings("b", dropout=0.5, rows_per_step=5, seed=6), make_rows(8, 1), rows)
    pair.start(wanted, rows, rows)
    alone = curve(single, "a", 4)
    assert curve(pair, "a", 4) == pytest.approx(alone, abs=1e-5)
    without = load(base)
    without.start(wanted.model_copy(update={"dropout": 0.0}), rows, rows)
    assert curve(without, "a", 4) != pytest.approx(alone, abs=1e-3)


def test_a_diverged_neighbour_does_no_harm(base: str, make_rows: MakeRows) -> None:
    rows = make_rows(8, 0)
    single, pair = load(base), load(base)
    single.start(settings("a"), rows, rows)
    pair.start(settings("wild", learning_rate=1e30, warmup=0), rows, rows)
    pair.start(settings("a"), rows, rows)
    results = [pair.step() for _ in range(4)]
    assert not math.isfinite(results[-1]["wild"].loss)
    assert [result["a"].loss for result in results] == pytest.approx(curve(single, "a", 4), abs=1e-5)


def test_a_step_that_failed_between_its_passes_moves_nobody(base: str, make_rows: MakeRows) -> None:
    rows, wanted = make_rows(8, 0), settings("a", accumulation=2, rows_per_step=4)
    single, pair = load(base), load(base)
    single.start(wanted, rows, rows)
    pair.start(wanted, rows, rows)
    broken = list(rows[:2])
    broken[rows_of_step(2, 2, seed=0, step=0)[1]] = EncodedRow([], [1, 999], [1, 999])  # no such token
    pair.start(settings("broken", accumulation=2, rows_per_step=2), broken, rows)
    with pytest.raises(IndexError):
        pair.step()
    assert all(weight.grad is None for slot in pair._slots.values() for weight in slot.weights.values())
    pair.stop("broken")
    assert curve(pair, "a", 3) == pytest.approx(curve(single, "a", 3), abs=1e-5)


def test_held_weights_and_bits_multiply_alike(base: str, make_rows: MakeRows) -> None:
    rows, found = make_rows(8, 0), []
    for held in (False, True):
        pack = load(base, quantize=True, bf16=True, cache_dequantized=held)
        pack.start(settings("a"), rows, rows)
        found.append((curve(pack, "a", 3), pack.evaluate(["a"]), pack.state("a")["weights"]))
    assert found[0][:2] == found[1][:2]
    assert same(found[0][2], found[1][2])


def test_a_four_bit_base_learns_on_after_it_was_measured(base: str, make_rows: MakeRows) -> None:
    rows, found = make_rows(8, 0), []
    for measured in (False, True):
        pack = load(base, quantize=True, bf16=True)
        pack.start(settings("a"), rows, rows)
        if measured:
            pack.evaluate(["a"])
        found.append(curve(pack, "a", 3))
    assert found[0] == found[1]


def test_bfloat16_adapters_stay_near_float32_ones(base: str, make_rows: MakeRows) -> None:
    rows, found = make_rows(8, 0), []
    for changed in (False, True):
        pack = load(base, bf16=True, bf16_adapters=changed)
        pack.start(settings("a"), rows, rows)
        found.append(curve(pack, "a", 6))
        assert {weight.dtype for weight in pack.state("a")["weights"].values()} == {torch.float32}
    assert found[0] == pytest.approx(found[1], abs=0.02)
    assert found[0] != found[1]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_flat_layout_learns_the_same(attention: str, base: str, make_rows: MakeRows) -> None:
    """FlashAttention's layout, under kernels that this machine has."""
    found = []
    for flat in (False, True):
        pack = load(base, attention=attention)
        pack._flat = flat
        for name, seed in (("a", 0), ("b", 1)):
            pack.start(settings(name, seed=seed), make_rows(8, seed), make_rows(4, seed))
        found.append([[result.loss for result in pack.step().values()] for _ in range(3)])
    for one, other in zip(*found, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_passes_of_a_step_add_up(base: str, make_rows: MakeRows) -> None:
    rows, found = make_rows(8, 0), []
    for passes in (1, 3):
        pack = load(base)
        pack.start(settings("a", rows_per_step=5, accumulation=passes), rows, rows)
        found.append((curve(pack, "a", 3), pack.evaluate(["a"])["a"]))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-5)
    assert found[0][1] == pytest.approx(found[1][1], abs=1e-5)
