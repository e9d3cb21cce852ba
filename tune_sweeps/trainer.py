"""The final job's trainer, reporting to Tune. Imports Transformers on top, so only trial processes import it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray import tune
from transformers import PrinterCallback, TrainerCallback

from train_jobs.qlora.config import QLoraConfig
from train_jobs.qlora.model import load_base, load_tokenizer, lora_config, set_adapter_types
from train_jobs.qlora.packing import collator, packed
from train_jobs.qlora.trainer import PersonaTrainer
from train_jobs.qlora.worker import as_dataset, padding_token, training_arguments
from tune_sweeps.history import History
from tune_sweeps.records import CurvePoint, TrialData
from tune_sweeps.solo import peak_memory_mib


class ReportToTune(TrainerCallback):
    """Reports each validation to Tune, together with the checkpoint of the same step where there is one.

    Tune answers a report by letting the trial go on or by ending its thread, so a report is the last thing of a step.
    """

    def __init__(self, rows: TrialData, history: History) -> None:
        self._rows = rows
        self._history = history

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **_: Any) -> None:
        loss = metrics["eval_loss"]
        logged: dict[str, float] = next((entry for entry in reversed(state.log_history) if "loss" in entry), {})
        point = CurvePoint(
            step=state.global_step,
            progress=100 * state.global_step / state.max_steps,
            validation_loss=loss,
            bits_per_char=self._rows.bits_per_char(loss),
            train_loss=logged.get("loss"),
            learning_rate=logged.get("learning_rate"),
            grad_norm=logged.get("grad_norm"),
            tokens_per_s=logged.get("tokens_per_s"),
            seconds=self._history.clock(),
            memory_mib=peak_memory_mib(),
        )
        self._history.add(point)
        if not control.should_save:
            tune.report(self._history.metrics())

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        self._history.write(folder)
        tune.report(self._history.metrics(), checkpoint=tune.Checkpoint.from_directory(folder))


def build_trainer(
    config: QLoraConfig, rows: TrialData, scratch: Path, device: str, every: int, report: ReportToTune
) -> Any:
    """The trainer with the final job's settings, on one device.

    Args:
        config: The trial's settings.
        rows: Its conversations.
        scratch: Where it saves checkpoints before Tune takes them.
        device: As torch names it.
        every: Validations between checkpoints.
        report: Takes the numbers to Tune.
    """
    tokenizer = load_tokenizer(config)
    train, validation = as_dataset(rows.train), as_dataset(rows.validation)
    arguments = training_arguments(config, scratch)
    arguments.save_steps = config.save_every * every
    arguments.eval_on_start = False  # the untrained base is the same for all trials
    trainer = PersonaTrainer(
        rows=train,
        rows_per_step=config.batch_size * config.accumulation,
        model=load_base(config, quantize=config.quantize, device=device),
        args=arguments,
        train_dataset=packed(train, config.max_length) if config.packing else train,
        eval_dataset=validation,
        data_collator=collator(config, padding_token(tokenizer)),
        processing_class=tokenizer,
        peft_config=lora_config(config),
        callbacks=[report],
    )
    trainer.remove_callback(PrinterCallback)
    set_adapter_types(trainer.model, config)
    return trainer
