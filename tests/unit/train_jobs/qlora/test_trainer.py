"""The trainer on a tiny model: the order of rows, a restart in the second epoch, honest token counts, NaN."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("trl")

import torch
from peft import LoraConfig, get_peft_model_state_dict
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from core.errors import TrainingDiverged
from train_jobs.qlora.callbacks import Clock
from train_jobs.qlora.config import QLoraConfig
from train_jobs.qlora.data import IGNORED, encode, training_template
from train_jobs.qlora.packing import collator, packed
from train_jobs.qlora.trainer import EpochOrder, PersonaTrainer
from train_jobs.qlora.worker import accumulation, as_dataset, deepspeed_settings, training_arguments

BASE = Path(__file__).parents[4] / "models" / "base"
WORDS = ("안녕", "오늘 뭐 해?", "노래 불러 줘", "무대는 어땠어?", "밥은 먹었어?", "잘 자", "내일도 올게", "고마워")


def config(**changes: Any) -> QLoraConfig:
    settings = {"bf16": False, "dropout": 0.2, "epochs": 2, "batch_size": 2, "log_every": 1, "save_every": 1}
    return QLoraConfig(character="haneul", **(settings | changes))


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(BASE)


@pytest.fixture(scope="module")
def rows(tokenizer: Any) -> Any:
    template = training_template(tokenizer)
    messages = [
        [{"role": "user", "content": words}, {"role": "assistant", "content": "응, 그래!" * (1 + index)}]
        for index, words in enumerate(WORDS)
    ]
    return as_dataset(tuple(encode(tokenizer, template, each) for each in messages))


def trainer(config: QLoraConfig, tokenizer: Any, rows: Any, scratch: Path) -> PersonaTrainer:
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2
    )
    return PersonaTrainer(
        rows=rows,
        rows_per_step=config.batch_size,
        model=LlamaForCausalLM(shape),
        args=training_arguments(config, scratch),
        data_collator=collator(config, tokenizer.pad_token_id),
        train_dataset=packed(rows, config.max_length) if config.packing else rows,
        eval_dataset=rows,
        processing_class=tokenizer,
        peft_config=LoraConfig(task_type="CAUSAL_LM", r=4, lora_dropout=config.dropout, target_modules="all-linear"),
    )


def losses(history: list[dict[str, Any]]) -> list[float]:
    return [entry["loss"] for entry in history if "loss" in entry]


def test_a_run_that_goes_on_in_its_second_epoch_has_the_losses_of_a_whole_one(
    tokenizer: Any, rows: Any, tmp_path: Path
) -> None:
    settings = config()
    whole = trainer(settings, tokenizer, rows, tmp_path / "whole")
    whole.args.save_total_limit = None
    whole.train()
    again = trainer(settings, tokenizer, rows, tmp_path / "again")
    again.args.eval_on_start = False
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-5"))
    assert len(losses(whole.state.log_history)) == 8
    assert losses(again.state.log_history) == pytest.approx(losses(whole.state.log_history), rel=1e-6)


def test_the_validation_loss_is_of_tokens_whatever_the_batches(tokenizer: Any, rows: Any, tmp_path: Path) -> None:
    run = trainer(config(), tokenizer, rows, tmp_path)
    found = []
    for size in (1, 3):
        run.args.per_device_eval_batch_size = size
        found.append(run.evaluate()["eval_loss"])
    nats = targets = 0.0
    for row in rows:
        count = sum(label != IGNORED for label in row["labels"][1:])
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        nats += count * run.model(input_ids=ids, labels=labels).loss.item()
        targets += count
    assert found == pytest.approx([nats / targets] * 2, rel=1e-5)


def test_a_finished_run_is_taken_over_without_another_step(tokenizer: Any, rows: Any, tmp_path: Path) -> None:
    whole = trainer(config(max_steps=3), tokenizer, rows, tmp_path / "whole")
    whole.args.save_total_limit = None
    whole.train()
    again = trainer(config(max_steps=3), tokenizer, rows, tmp_path / "again")
    assert not again.is_over(str(tmp_path / "whole" / "checkpoint-2"))
    assert again.is_over(str(tmp_path / "whole" / "checkpoint-3"))
    again.take_over(str(tmp_path / "whole" / "checkpoint-3"))
    assert again.state.log_history[:-1] == whole.state.log_history[: len(again.state.log_history) - 1]
    mine, its = (get_peft_model_state_dict(run.model) for run in (again, whole))
    assert all(torch.equal(mine[name], its[name]) for name in its)


@pytest.mark.parametrize("packing", [False, True])
def test_tokens_are_counted_without_padding(packing: bool, tokenizer: Any, rows: Any, tmp_path: Path) -> None:
    settings = config(packing=packing, epochs=1, max_length=64)
    run = trainer(settings, tokenizer, rows, tmp_path)
    run.train()
    last = next(entry for entry in reversed(run.state.log_history) if "loss" in entry)
    assert last["tokens"] == sum(len(ids) for ids in rows["input_ids"])
    assert last["tokens_per_s"] > 0
    assert 0 < last["memory_gib"] < 1000
    assert last["grad_norm"] > 0


@pytest.mark.parametrize("packing", [False, True])
def test_a_loss_that_is_no_number_names_the_step_and_its_conversations(
    packing: bool, tokenizer: Any, rows: Any, tmp_path: Path
) -> None:
    run = trainer(config(packing=packing, max_length=64, batch_size=1), tokenizer, rows, tmp_path)
    (poison,) = tokenizer(WORDS[5], add_special_tokens=False)["input_ids"][:1]
    assert [poison in ids for ids in rows["input_ids"]] == [index == 5 for index in range(len(WORDS))]
    with torch.no_grad():
        run.model.get_input_embeddings().weight[poison] = float("nan")
    run.args.eval_on_start = False
    with pytest.raises(TrainingDiverged, match=rf"step \d: the loss is nan over .*row 5 \({WORDS[5]}\)"):
        run.train()


def test_a_gradient_that_is_no_number_stops_before_it_spoils_the_weights(
    tokenizer: Any, rows: Any, tmp_path: Path
) -> None:
    run = trainer(config(batch_size=1), tokenizer, rows, tmp_path)
    learned = [parameter for parameter in run.model.parameters() if parameter.requires_grad]
    learned[0].register_hook(lambda gradient: gradient * float("inf"))
    run.args.eval_on_start = False
    with pytest.raises(TrainingDiverged, match=r"step 1: the gradient's norm is (inf|nan) over row \d "):
        run.train()
    assert all(bool(parameter.isfinite().all()) for parameter in learned)


def test_the_order_follows_from_the_seed_and_the_epoch() -> None:
    order = EpochOrder([3, 9, 4, 7, 1, 8, 2, 6], rows_per_step=2, seed=1)
    first = list(order)
    torch.manual_seed(99)
    assert list(order) == first
    assert sorted(first) == list(range(8))
    order.epoch = 1
    assert list(order) != first
    assert list(EpochOrder([3, 9, 4, 7, 1, 8, 2, 6], 2, seed=2)) != first


@pytest.mark.parametrize(
    ("stop_at", "save_minutes", "stops", "saves"),
    [(1.0, None, True, True), (None, 1e-9, False, True), (4e9, 1e9, False, False)],
)
def test_the_clock_stops_with_a_checkpoint_and_saves_by_minutes(
    stop_at: float | None, save_minutes: float | None, stops: bool, saves: bool
) -> None:
    control = SimpleNamespace(should_save=False, should_training_stop=False)
    Clock(stop_at, save_minutes).on_step_end(SimpleNamespace(device="cpu"), None, control)
    assert (control.should_training_stop, control.should_save) == (stops, saves)


def test_fewer_workers_learn_from_as_many_rows_per_step() -> None:
    elastic = config(num_workers=[1, 4], accumulation=3)
    assert [workers * accumulation(elastic, workers) for workers in (1, 2, 3, 4)] == [12] * 4


@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_gets_its_stage_and_gathers_what_it_saves(stage: int) -> None:
    settings = deepspeed_settings(config(deepspeed_stage=stage, use_gpu=True, samples=0))
    assert settings is not None
    assert settings["zero_optimization"]["stage"] == stage
    assert settings["zero_optimization"].get("stage3_gather_16bit_weights_on_model_save", False) == (stage == 3)
    assert deepspeed_settings(config()) is None
