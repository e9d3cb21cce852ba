"""What each training process does. Heavy imports stay inside: the entry imports this module to hand it over."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from core.logs import setup_logging
from core.settings import get_settings
from train_jobs.qlora.checkpoints import last_checkpoint
from train_jobs.qlora.config import QLoraConfig
from train_jobs.qlora.data import EncodedRow, Messages
from train_jobs.qlora.model import load_base, load_tokenizer, lora_config, set_adapter_types

SAMPLE_TOKENS = 96
SAMPLE_TEMPERATURE = 0.7
RECENT = 0.1
"""Share of the logged losses, the last ones, whose mean is the training loss."""


@dataclass(frozen=True, slots=True)
class Task:
    """What the entry gives to every worker."""

    config: QLoraConfig
    run_dir: Path
    train: Any
    """``datasets.Dataset`` of messages, input_ids and labels; not packed yet."""

    validation: Any
    prompts: tuple[Messages, ...]
    stop_at: float | None = None
    """When to stop with a checkpoint, in seconds since the epoch."""

    samples_in_4_bits: bool = False
    """Answer the prompts on the 4-bit base: the 16-bit one is too large for the GPU."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What rank 0 gives back; the adapter itself is in the last checkpoint."""

    metrics: dict[str, float]
    replies: tuple[str, ...]
    history: tuple[dict[str, float], ...] = ()
    """What was logged, from the first step on, also before an interruption."""

    finished: bool = True
    """False when the clock stopped the run: it goes on from its last checkpoint."""


def as_dataset(rows: tuple[EncodedRow, ...]) -> Any:
    """Rows in the columnar form that Transformers reads; small enough to travel through the object store."""
    from datasets import Dataset, Features, List, Value

    tokens = List(Value("int32"))
    message = {"role": Value("string"), "content": Value("string")}
    columns = {
        "messages": [row.messages for row in rows],
        "input_ids": [row.input_ids for row in rows],
        "labels": [row.labels for row in rows],
    }
    return Dataset.from_dict(
        columns, features=Features({"messages": List(message), "input_ids": tokens, "labels": tokens})
    )


def train_worker(loop_config: dict[str, Any]) -> Outcome:
    """Train, saving checkpoints through Ray, then answer the held-out prompts on rank 0."""
    import ray.train
    import torch
    from datasets import disable_progress_bars
    from transformers.utils import logging as transformers_logging

    task: Task = loop_config["task"]
    setup_logging(get_settings())
    transformers_logging.disable_progress_bar()
    disable_progress_bars()
    torch.set_num_threads(task.config.cpus_per_worker)
    with TemporaryDirectory(prefix="qlora-") as scratch:
        trainer = build_trainer(task, Path(scratch))
        with last_checkpoint() as folder:
            trainer.args.eval_on_start = folder is None  # a run that goes on was measured when it began
            if folder and trainer.is_over(folder):
                trainer.take_over(folder)
            else:
                trainer.train(resume_from_checkpoint=folder)
        metrics, history = summary(trainer), tuple(trainer.state.log_history)
        if trainer.state.global_step < trainer.state.max_steps:
            return Outcome(metrics, (), history, finished=False)
        adapter = Path(scratch) / "adapter"
        trainer.save_model(str(adapter))
        del trainer  # frees the 4-bit base: the samples load it in 16 bits
        first = ray.train.get_context().get_world_rank() == 0
        return Outcome(metrics, answer(task, adapter) if first else (), history)


def build_trainer(task: Task, scratch: Path) -> Any:
    """TRL's trainer on the quantised base with a new adapter."""
    from transformers import PrinterCallback

    from train_jobs.qlora.callbacks import Clock, LogLine, ReportToRay
    from train_jobs.qlora.packing import collator, packed
    from train_jobs.qlora.tracking import Track, start_tracker
    from train_jobs.qlora.trainer import PersonaTrainer

    config = task.config
    # First the arguments: with ZeRO-3 they tell Transformers to split the base while it is loaded.
    arguments = training_arguments(config, scratch)
    tokenizer = load_tokenizer(config)
    tracker = start_tracker(config, task.run_dir)
    clock = [Clock(task.stop_at, config.save_minutes)] if task.stop_at or config.save_minutes else []
    trainer = PersonaTrainer(
        rows=task.train,
        # Of the most workers: the order stays the same when fewer of them are there.
        rows_per_step=config.batch_size * config.accumulation * config.most_workers,
        model=load_base(config, quantize=config.quantize),
        args=arguments,
        data_collator=collator(config, padding_token(tokenizer)),
        train_dataset=packed(task.train, config.max_length) if config.packing else task.train,
        eval_dataset=task.validation,
        processing_class=tokenizer,
        peft_config=lora_config(config),
        callbacks=[*clock, ReportToRay(), LogLine(), *([Track(tracker)] if tracker else [])],
    )
    trainer.remove_callback(PrinterCallback)  # LogLine says the same
    set_adapter_types(trainer.model, config)
    return trainer


def backend(config: QLoraConfig) -> str:
    """What the workers talk through."""
    return "nccl" if config.use_gpu else "gloo"


def padding_token(tokenizer: Any) -> int:
    """The token that fills rows, of which nothing is learned; the end of turn where the tokenizer has none."""
    found = tokenizer.pad_token_id
    return int(tokenizer.eos_token_id if found is None else found)


def world_size() -> int:
    """Workers of this run as it is now; 1 outside Ray Train."""
    import torch

    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def accumulation(config: QLoraConfig, workers: int) -> int:
    """Passes per step of each worker: fewer workers than the most learn from as many rows per step.

    The settings hold only numbers of workers that this can be divided by.
    """
    return config.accumulation * config.most_workers // workers


def training_arguments(config: QLoraConfig, scratch: Path) -> Any:
    """Our settings in TRL's words."""
    import torch
    from trl import SFTConfig

    return SFTConfig(
        output_dir=str(scratch),
        num_train_epochs=config.epochs,
        max_steps=config.max_steps or -1,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size,
        gradient_accumulation_steps=accumulation(config, world_size()),
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup,
        weight_decay=config.weight_decay,
        optim=config.optimizer,
        gradient_checkpointing=config.gradient_checkpointing,
        # Autocast pays on GPUs only; on a CPU the base computes in its own dtype, twice as fast; not under DeepSpeed.
        bf16=config.bf16 and (config.use_gpu or config.deepspeed_stage > 0),
        fp16=config.fp16,
        use_cpu=not config.use_gpu,
        ddp_backend=backend(config) if torch.distributed.is_initialized() else None,
        ddp_find_unused_parameters=False,
        deepspeed=deepspeed_settings(config),
        seed=config.seed,
        max_length=None,
        # The rows are encoded, checked, masked and filtered by length already; what was checked is what is learned.
        dataset_kwargs={"skip_prepare_dataset": True},
        dataloader_pin_memory=config.use_gpu,
        logging_steps=config.log_every,
        eval_strategy="steps",
        eval_steps=config.save_every,
        eval_on_start=True,
        save_strategy="steps",
        save_steps=config.save_every,
        save_total_limit=1,
        report_to="none",
        disable_tqdm=True,
    )


def deepspeed_settings(config: QLoraConfig) -> dict[str, Any] | None:
    """ZeRO as Transformers fills it in (``auto``); ``None`` for plain data parallelism."""
    if not config.deepspeed_stage:
        return None
    zero: dict[str, Any] = {"stage": config.deepspeed_stage}
    if config.deepspeed_stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    return {
        "zero_optimization": zero,
        "zero_force_ds_cpu_optimizer": False,
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": "auto"},
        "gradient_clipping": "auto",
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
    }


def summary(trainer: Any) -> dict[str, float]:
    """The run in numbers, from the log that also survives a resume; speed and minutes are of this process."""
    history = trainer.state.log_history
    losses = [entry["loss"] for entry in history if "loss" in entry]
    measured = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    recent = losses[-max(1, round(RECENT * len(losses))) :]
    trained = [p.numel() for p in trainer.model.parameters() if p.requires_grad]
    return {
        "train_loss": sum(recent) / len(recent) if recent else float("nan"),
        "validation_loss_before": measured[0] if measured else float("nan"),
        "validation_loss": measured[-1] if measured else float("nan"),
        "steps": float(trainer.state.global_step),
        "minutes": trainer.minutes(),
        "tokens_per_s": trainer.tokens_per_s(),
        "trained_parameters": float(sum(trained)),
    }


def answer(task: Task, adapter: Path) -> tuple[str, ...]:
    """Replies to the held-out prompts as serving would give them: on the base in 16 bits, where it fits."""
    import torch
    from peft import PeftModel

    if not task.prompts:
        return ()
    tokenizer = load_tokenizer(task.config)
    model = PeftModel.from_pretrained(load_base(task.config, quantize=task.samples_in_4_bits), str(adapter)).eval()
    torch.manual_seed(task.config.seed)
    return tuple(_reply(model, tokenizer, prompt) for prompt in task.prompts)


def _reply(model: Any, tokenizer: Any, prompt: Messages) -> str:
    import torch

    inputs = tokenizer.apply_chat_template(
        prompt, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    ).to(model.device)
    with torch.no_grad():
        output = model.generate(
            **inputs, max_new_tokens=SAMPLE_TOKENS, do_sample=True, temperature=SAMPLE_TEMPERATURE
        )
    text: str = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return text.strip()
