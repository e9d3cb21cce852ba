"""What each training process does. Heavy imports stay inside: the entry imports this module to hand it over."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from core.logs import get_logger, setup_logging
from core.settings import get_settings
from train_jobs.qlora.config import QLoraConfig
from train_jobs.qlora.data import EncodedRow, Messages
from train_jobs.qlora.model import load_base, load_tokenizer, lora_config, multiply_in_bfloat16

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
    """``datasets.Dataset`` of messages, input_ids and labels."""

    validation: Any
    prompts: tuple[Messages, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What rank 0 gives back; the adapter itself is in the last checkpoint."""

    metrics: dict[str, float]
    replies: tuple[str, ...]


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
    from transformers.utils import logging as transformers_logging

    task: Task = loop_config["task"]
    setup_logging(get_settings())
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(task.config.cpus_per_worker)
    with TemporaryDirectory(prefix="qlora-") as scratch:
        trainer = build_trainer(task, Path(scratch))
        with last_checkpoint() as folder:
            started = time.monotonic()
            trainer.train(resume_from_checkpoint=folder)
        metrics = summary(trainer, time.monotonic() - started)
        adapter = Path(scratch) / "adapter"
        trainer.save_model(str(adapter))
        del trainer  # frees the 4-bit base: the samples load it in 16 bits
        first = ray.train.get_context().get_world_rank() == 0
        return Outcome(metrics, answer(task, adapter) if first else ())


@contextmanager
def last_checkpoint() -> Iterator[str | None]:
    """The folder of the checkpoint to go on from; ``None`` in a run that begins."""
    import ray.train

    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        yield None
        return
    get_logger("qlora").info("resuming", checkpoint=Path(checkpoint.path).name)
    with checkpoint.as_directory() as folder:
        yield folder if is_whole(Path(folder)) else older_checkpoint(Path(checkpoint.path))


def is_whole(folder: Path) -> bool:
    """Whether a checkpoint holds its weights: a run killed between writing and pruning may name one that is gone."""
    return (folder / "adapter_model.safetensors").is_file()


def older_checkpoint(broken: Path) -> str | None:
    """The newest whole checkpoint beside a broken one; ``None`` starts again from the beginning."""
    siblings = sorted(broken.parent.glob("checkpoint_*"), reverse=True)
    found = next((folder for folder in siblings if folder.is_dir() and is_whole(folder)), None)
    get_logger("qlora").warning(
        "last checkpoint is not whole", checkpoint=broken.name, instead=found.name if found else "the beginning"
    )
    return str(found) if found else None


def build_trainer(task: Task, scratch: Path) -> Any:
    """TRL's trainer on the quantised base with a new adapter."""
    import torch
    from transformers import PrinterCallback
    from trl import SFTTrainer

    from train_jobs.qlora.callbacks import LogLine, ReportToRay
    from train_jobs.qlora.tracking import LogToWandb, start_wandb

    run = start_wandb(task.config, task.run_dir)
    trainer = SFTTrainer(
        model=load_base(task.config, quantize=task.config.quantize),
        args=training_arguments(task.config, scratch),
        train_dataset=task.train,
        eval_dataset=task.validation,
        processing_class=load_tokenizer(task.config),
        peft_config=lora_config(task.config),
        callbacks=[ReportToRay(), LogLine(), *([LogToWandb(run)] if run else [])],
    )
    trainer.remove_callback(PrinterCallback)  # LogLine says the same
    for parameter in trainer.model.parameters():
        # TRL puts adapters on a 4-bit base into bfloat16, where the small late updates of AdamW round to nothing.
        if parameter.requires_grad and not task.config.deepspeed_stage:
            parameter.data = parameter.data.to(torch.float32)
    if task.config.bf16 and not task.config.use_gpu:
        multiply_in_bfloat16(trainer.model)
    return trainer


def training_arguments(config: QLoraConfig, scratch: Path) -> Any:
    """Our settings in TRL's words."""
    from trl import SFTConfig

    return SFTConfig(
        output_dir=str(scratch),
        num_train_epochs=config.epochs,
        max_steps=config.max_steps or -1,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulation,
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup,
        weight_decay=config.weight_decay,
        optim=config.optimizer,
        gradient_checkpointing=config.gradient_checkpointing,
        # Autocast pays on GPUs only; on a CPU the base computes in its own dtype, twice as fast.
        bf16=config.bf16 and config.use_gpu,
        use_cpu=not config.use_gpu,
        ddp_backend="nccl" if config.use_gpu else "gloo",
        ddp_find_unused_parameters=False,
        deepspeed=deepspeed_settings(config),
        seed=config.seed,
        assistant_only_loss=True,
        max_length=None,
        # The rows are encoded, checked and filtered by length already; what was checked is what is learned.
        dataset_kwargs={"skip_prepare_dataset": True},
        train_sampling_strategy="group_by_length",
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
    """ZeRO-2 as Transformers fills it in (``auto``); ``None`` for plain data parallelism."""
    if not config.deepspeed_stage:
        return None
    return {
        "zero_optimization": {"stage": config.deepspeed_stage},
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": config.bf16},
        "gradient_clipping": "auto",
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
    }


def summary(trainer: Any, seconds: float) -> dict[str, float]:
    """The run in numbers, from the log that also survives a resume."""
    history = trainer.state.log_history
    losses = [entry["loss"] for entry in history if "loss" in entry]
    measured = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    tokens = [entry["num_tokens"] for entry in history if "num_tokens" in entry]
    recent = losses[-max(1, round(RECENT * len(losses))) :]
    trained = [p.numel() for p in trainer.model.parameters() if p.requires_grad]
    return {
        "train_loss": sum(recent) / len(recent) if recent else float("nan"),
        "validation_loss_before": measured[0],
        "validation_loss": measured[-1],
        "steps": float(trainer.state.global_step),
        "minutes": seconds / 60,
        "tokens_per_s": (tokens[-1] if tokens else 0) / seconds,
        "trained_parameters": float(sum(trained)),
    }


def answer(task: Task, adapter: Path) -> tuple[str, ...]:
    """Replies to the held-out prompts as serving would give them: on the base in 16 bits."""
    import torch
    from peft import PeftModel

    if not task.prompts:
        return ()
    tokenizer = load_tokenizer(task.config)
    model = PeftModel.from_pretrained(load_base(task.config, quantize=False), str(adapter)).eval()
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
