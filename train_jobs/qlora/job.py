"""A checked run of the fine-tuning job: what it needs, what it leaves."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.store import AdapterStore
from core.errors import ConfigurationError
from core.logs import get_logger
from core.provenance import code_revision, refuse_uploaded_copy
from core.settings import Settings
from train_jobs.qlora import ray_hook
from train_jobs.qlora.config import QLoraConfig, learned_settings
from train_jobs.qlora.data import (
    Messages,
    Split,
    held_out_prompts,
    load_conversations,
    prepare_split,
)
from train_jobs.qlora.publish import (
    Provenance,
    base_revision,
    build_manifest,
    collect_adapter,
    samples_page,
    tokenizer_revision,
)

OBJECT_STORE_BYTES = 256 * 1024**2
PATIENCE_S = 60
"""How long the rest of a killed run of the same name is waited for, in seconds; Ray ends it in two or three."""


@dataclass(frozen=True, slots=True)
class QLoraJob:
    """A checked run: everything that could be wrong with its settings has been looked at."""

    config: QLoraConfig
    version: str
    run_dir: Path
    roots: tuple[Path, ...]
    """Where adapters lie; the first one takes the new one."""

    base: str
    split: Split
    prompts: tuple[Messages, ...]
    origin: Provenance

    def run(self) -> None:
        """Train, or go on training, and publish. A finished run is only published."""
        self._claim_run_dir()
        if not self._metrics_path.is_file():
            self._train()
        metrics = json.loads(self._metrics_path.read_text(encoding="utf-8"))
        get_logger("qlora").info("trained", run=self.run_dir.name, **metrics)
        if self.config.publish:
            self._publish(metrics)

    @property
    def _metrics_path(self) -> Path:
        """Written last: its presence says that the run is finished."""
        return self.run_dir / "metrics.json"

    @property
    def _adapter_dir(self) -> Path:
        return self.run_dir / "adapter"

    def _claim_run_dir(self) -> None:
        """A name belongs to one set of settings: going on with others would mix two trainings."""
        path = self.run_dir / "run.json"
        mine: dict[str, Any] = {
            **learned_settings(self.config),
            "dataset_hash": self.origin.dataset_hash,
            "base_revision": self.origin.base_revision,
        }
        if not path.is_file():
            self.run_dir.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(mine, indent=2) + "\n", encoding="utf-8")
            return
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = sorted(key for key in mine.keys() | before.keys() if mine.get(key) != before.get(key))
        if changed:
            raise ConfigurationError(
                f"run {self.run_dir.name} was begun with other settings ({', '.join(changed)}): "
                f"choose another run_name, or delete {self.run_dir}"
            )

    def _train(self) -> None:
        import ray
        from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        from train_jobs.qlora.callbacks import KEPT_CHECKPOINTS
        from train_jobs.qlora.lock import HoldRunFolder, wait_until_free
        from train_jobs.qlora.worker import Task, as_dataset, train_worker

        config = self.config
        wait_until_free(self.run_dir, PATIENCE_S)
        connect(config)
        task = Task(
            config, self.run_dir, as_dataset(self.split.train), as_dataset(self.split.validation), self.prompts
        )
        trainer = TorchTrainer(
            train_worker,
            train_loop_config={"task": task},
            torch_config=TorchConfig(backend="nccl" if config.use_gpu else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=config.num_workers,
                use_gpu=config.use_gpu,
                resources_per_worker={"CPU": config.cpus_per_worker, **({"GPU": 1} if config.use_gpu else {})},
            ),
            run_config=RunConfig(
                name=self.run_dir.name,
                storage_path=str(self.run_dir.parent),
                checkpoint_config=CheckpointConfig(num_to_keep=KEPT_CHECKPOINTS),
                failure_config=FailureConfig(max_failures=config.max_failures),
                callbacks=[HoldRunFolder(self.run_dir)],
            ),
        )
        try:
            self._collect(trainer.fit())
        finally:
            ray.shutdown()

    def _collect(self, result: Any) -> None:
        outcome = result.return_value
        with result.checkpoint.as_directory() as folder:
            collect_adapter(Path(folder), self._adapter_dir, self.base)
        title = f"{self.config.character}/{self.version}"
        page = samples_page(title, self.prompts, outcome.replies)
        (self.run_dir / "samples.md").write_text(page, encoding="utf-8")
        rows = {
            "training_rows": len(self.split.train),
            "validation_rows": len(self.split.validation),
            "too_long_rows": self.split.too_long,
        }
        self._metrics_path.write_text(json.dumps(outcome.metrics | rows, indent=2) + "\n", encoding="utf-8")

    def _publish(self, metrics: dict[str, float]) -> None:
        manifest = build_manifest(self.config, self.version, self.origin, metrics, self._adapter_dir)
        folder = AdapterStore(self.roots).publish(self._adapter_dir, manifest)
        get_logger("qlora").info("published", adapter=f"{manifest.persona}/{manifest.version}", path=str(folder))


def prepare(config: QLoraConfig, settings: Settings) -> QLoraJob:
    """Check everything that can be checked before Ray is touched."""
    roots = settings.adapter_roots
    version = chosen_version(roots, config)
    storage = settings.resolved(config.storage_path) if config.storage_path else settings.home_dir / "training"
    refuse_uploaded_copy(storage, "storage_path")
    if config.publish:
        refuse_uploaded_copy(roots[0], "ARTISTMIND_ADAPTERS_DIR")
    base = found_base(settings, config.base_model)
    tokenizer = load_tokenizer(base)
    found = load_conversations(config, settings)
    split = prepare_split(tokenizer, found, config.max_length)
    get_logger("qlora").info(
        "data", train=len(split.train), validation=len(split.validation), too_long=split.too_long
    )
    return QLoraJob(
        config=config,
        version=version,
        run_dir=storage / (config.run_name or f"{config.character}-{version}"),
        roots=roots,
        base=base,
        split=split,
        prompts=prompts(config, split),
        origin=Provenance(
            base_revision=base_revision(base),
            tokenizer_revision=tokenizer_revision(base, tokenizer),
            dataset=found.name,
            dataset_hash=found.digest,
            code_revision=code_revision(),
        ),
    )


def chosen_version(roots: Sequence[Path], config: QLoraConfig) -> str:
    """The version to publish; one that is there already is refused before hours are spent on it."""
    if config.version is None:
        folders = [folder.name for root in roots for folder in (root / config.character).glob("v*")]
        numbers = [int(match[1]) for name in folders if (match := re.fullmatch(r"v(\d+)", name))]
        return f"v{max(numbers, default=0) + 1}"
    if config.publish and any((root / config.character / config.version).exists() for root in roots):
        raise ConfigurationError(f"version: {config.character}/{config.version} is published already; choose another")
    return config.version


def found_base(settings: Settings, name: str) -> str:
    """A local base's folder or a hub name; a name that can be neither is an error."""
    base = settings.model_path(name)
    if Path(base).is_dir():
        if not (Path(base) / "config.json").is_file():
            raise ConfigurationError(f"base_model: {base} holds no model (config.json is missing)")
        return base
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or name.startswith("."):
        raise ConfigurationError(
            f"base_model: there is no {name!r} under {settings.resolved(settings.models_dir)}, and it is no hub name"
        )
    return base


def load_tokenizer(base: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(base)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigurationError(f"base_model: no tokenizer of {base} can be loaded: {reason}") from error


def prompts(config: QLoraConfig, split: Split) -> tuple[Messages, ...]:
    """What is asked after the training: held-out user lines, or the validation side of a file."""
    if config.data.path or config.data.version:
        return tuple(row.messages[:-1] for row in split.validation[: config.samples])
    return tuple(held_out_prompts(config.character, config.samples))


def connect(config: QLoraConfig) -> None:
    """Join the cluster that ``RAY_ADDRESS`` names (a submitted job has it set), or start a Ray for this run only."""
    import ray

    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")  # it shows every line twice
    if os.environ.get("RAY_ADDRESS"):
        ray.init()
        return
    ray.init(
        address="local",
        num_cpus=config.num_workers * config.cpus_per_worker,
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        runtime_env={"worker_process_setup_hook": ray_hook.HOOK},
    )
