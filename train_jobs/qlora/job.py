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
from core.errors import ConfigurationError, SetupError
from core.logs import get_logger
from core.provenance import refuse_uploaded_copy
from core.settings import Settings
from train_jobs.qlora import ray_hook
from train_jobs.qlora.claim import (
    CLAIM,
    FINISHED,
    begun_version,
    changed_settings,
    next_version,
    published_as,
    refuse_published,
)
from train_jobs.qlora.config import QLoraConfig, learned_settings
from train_jobs.qlora.data import (
    Messages,
    Split,
    held_out_prompts,
    load_conversations,
    prepare_split,
)
from train_jobs.qlora.preflight import check_base, check_machine
from train_jobs.qlora.publish import (
    Provenance,
    build_manifest,
    collect_adapter,
    origin_page,
    provenance,
    samples_page,
)
from train_jobs.qlora.storage import RunStorage, run_storage, write_text

OBJECT_STORE_BYTES = 256 * 1024**2
PATIENCE_S = 60
"""How long the rest of a killed run of the same name is waited for, in seconds; Ray ends it in two or three."""


@dataclass(frozen=True, slots=True)
class QLoraJob:
    """A checked run: everything that could be wrong with its settings has been looked at."""

    config: QLoraConfig
    storage: RunStorage
    roots: tuple[Path, ...]
    """Where adapters lie; the first one takes the new one."""

    base: str
    split: Split
    prompts: tuple[Messages, ...]
    samples_in_4_bits: bool
    origin: Provenance

    @property
    def run_dir(self) -> Path:
        """The run's local folder."""
        return self.storage.folder

    def run(self, stop_at: float | None = None) -> bool:
        """Train, or go on training, and publish. A finished run is only published.

        Args:
            stop_at: When to stop with a checkpoint, in seconds since the epoch.

        Returns:
            Whether the training is finished; if not, another call goes on with it.
        """
        self.storage.pull(CLAIM, FINISHED, "adapter")
        self._claim_run_dir()
        if not self._metrics_path.is_file() and not self._train(stop_at):
            return False
        metrics = json.loads(self._metrics_path.read_text(encoding="utf-8"))
        get_logger("qlora").info("trained", run=self.run_dir.name, **metrics)
        if self.config.publish:
            self._publish(metrics)
        return True

    @property
    def _metrics_path(self) -> Path:
        return self.run_dir / FINISHED

    @property
    def _adapter_dir(self) -> Path:
        return self.run_dir / "adapter"

    def _claim_run_dir(self) -> None:
        """A name belongs to one set of settings: going on with others would mix two trainings."""
        path = self.run_dir / CLAIM
        mine = claim_of(self.config, self.origin)
        if not path.is_file():
            write_text(path, json.dumps(mine, indent=2) + "\n")
            self.storage.push(CLAIM)
            return
        changed = changed_settings(path, mine, self.config.character)
        if changed:
            raise ConfigurationError(
                f"run {self.run_dir.name} was begun with other settings ({', '.join(changed)}): "
                f"choose another run_name, or delete {self.run_dir}"
            )

    def _keep_provenance(self) -> None:
        """Where the adapter comes from, also when it is not published. Another commit may go on with the run."""
        page = origin_page(self.config, self.origin)
        write_text(self.run_dir / "provenance.json", json.dumps(page, indent=2, ensure_ascii=False) + "\n")
        self.storage.push("provenance.json")

    def _train(self, stop_at: float | None) -> bool:
        import ray
        from ray.train import TrainingFailedError

        from train_jobs.qlora.failures import our_error
        from train_jobs.qlora.lock import wait_until_free

        wait_until_free(self.run_dir, PATIENCE_S)
        self._keep_provenance()
        connect(self.config)
        try:
            return self._collect(self._ray_trainer(stop_at).fit())
        except TrainingFailedError as error:
            raise our_error(error) from error
        finally:
            ray.shutdown()

    def _ray_trainer(self, stop_at: float | None) -> Any:
        from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        from train_jobs.qlora.failures import StopOnOurErrors
        from train_jobs.qlora.lock import HoldRunFolder
        from train_jobs.qlora.worker import Task, as_dataset, backend, train_worker

        config = self.config
        task = Task(
            config,
            self.run_dir,
            as_dataset(self.split.train),
            as_dataset(self.split.validation),
            self.prompts,
            stop_at,
            self.samples_in_4_bits,
        )
        return TorchTrainer(
            train_worker,
            train_loop_config={"task": task},
            torch_config=TorchConfig(backend=backend(config)),
            scaling_config=ScalingConfig(
                num_workers=config.num_workers,
                use_gpu=config.use_gpu,
                resources_per_worker={
                    "CPU": config.cpus_per_worker,
                    **({"GPU": 1} if config.use_gpu else {}),
                },
            ),
            run_config=RunConfig(
                name=self.run_dir.name,
                storage_path=self.storage.path,
                checkpoint_config=CheckpointConfig(num_to_keep=config.keep_checkpoints),
                failure_config=FailureConfig(max_failures=config.max_failures),
                callbacks=[HoldRunFolder(self.run_dir), StopOnOurErrors()],
            ),
        )

    def _collect(self, result: Any) -> bool:
        """Write what the run leaves; ``False`` when the clock stopped it before its end."""
        outcome = result.return_value
        history = "".join(json.dumps(entry) + "\n" for entry in outcome.history)
        write_text(self.run_dir / "history.jsonl", history)
        if not outcome.finished:
            self.storage.push("history.jsonl")
            get_logger("qlora").info("stopped", run=self.run_dir.name, step=outcome.metrics["steps"])
            return False
        with result.checkpoint.as_directory() as folder:
            collect_adapter(Path(folder), self._adapter_dir, self.base)
        page = samples_page(self.run_dir.name, self.prompts, outcome.replies)
        write_text(self.run_dir / "samples.md", page)
        rows = {
            "training_rows": len(self.split.train),
            "validation_rows": len(self.split.validation),
            "too_long_rows": self.split.too_long,
        }
        write_text(self._metrics_path, json.dumps(outcome.metrics | rows, indent=2) + "\n")
        self.storage.push("history.jsonl", "samples.md", "adapter", FINISHED)
        return True

    def _publish(self, metrics: dict[str, float]) -> None:
        before = published_as(self._adapter_dir, self.config, self.roots)
        if before is not None:
            get_logger("qlora").info("published before", adapter=f"{self.config.character}/{before}")
            return
        # Somebody else may have published the planned number since the run was begun.
        version = self.config.version or next_version(self.roots, self.config.character)
        manifest = build_manifest(self.config, version, self.origin, metrics, self._adapter_dir)
        folder = AdapterStore(self.roots).publish(self._adapter_dir, manifest)
        get_logger("qlora").info("published", adapter=f"{manifest.persona}/{manifest.version}", path=str(folder))


def prepare(config: QLoraConfig, settings: Settings) -> QLoraJob:
    """Check everything that can be checked before Ray is touched."""
    roots = settings.adapter_roots
    refuse_published(roots, config)
    if config.publish:
        refuse_uploaded_copy(roots[0], "ARTISTMIND_ADAPTERS_DIR")
    check_machine(config, settings)
    base = found_base(settings, config.base_model)
    tokenizer = load_tokenizer(base)
    found = load_conversations(config, settings)
    split = prepare_split(tokenizer, found, config.max_length)
    origin = provenance(base, tokenizer, found)
    version = config.version or planned_version(config, origin, roots, settings)
    storage = run_storage(config, settings, config.run_name or f"{config.character}-{version}")
    if not storage.remote:
        refuse_uploaded_copy(storage.folder, "storage_path")
    checked = check_base(config, base, storage)
    get_logger("qlora").info(
        "data", train=len(split.train), validation=len(split.validation), too_long=split.too_long
    )
    get_logger("qlora").info("memory estimate", gib=round(checked.needed.gib, 1), of=checked.needed.line())
    return QLoraJob(
        config=config,
        storage=storage,
        roots=roots,
        base=base,
        split=split,
        prompts=prompts(config, split),
        samples_in_4_bits=checked.samples_in_4_bits,
        origin=origin,
    )


def claim_of(config: QLoraConfig, origin: Provenance) -> dict[str, Any]:
    """What a run's folder is claimed with."""
    hashes = {"dataset_hash": origin.dataset_hash, "base_revision": origin.base_revision}
    return {**learned_settings(config), **hashes}


def planned_version(config: QLoraConfig, origin: Provenance, roots: Sequence[Path], settings: Settings) -> str:
    """That of a run of the same job that is not over, else the next free one."""
    begun = None if config.run_name else begun_version(claim_of(config, origin), config, roots, settings)
    return begun or next_version(roots, config.character)


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
        join_cluster()
        found = ray.cluster_resources().get("GPU", 0)
        if config.use_gpu and found < config.least_workers:  # the cluster may be about to start nodes
            get_logger("qlora").warning("waiting for GPUs", wanted=config.least_workers, found=found)
        return
    ray.init(
        address="local",
        num_cpus=config.most_workers * config.cpus_per_worker,
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        runtime_env={"worker_process_setup_hook": ray_hook.HOOK},
    )


def join_cluster(**options: Any) -> None:
    """Connect to the cluster that ``RAY_ADDRESS`` names.

    Raises:
        SetupError: Nothing answers there.
    """
    import ray

    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SetupError(f"RAY_ADDRESS: {os.environ['RAY_ADDRESS']} cannot be joined: {reason}") from error
