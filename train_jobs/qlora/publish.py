"""From the last checkpoint to a published adapter: portable files, manifest, sample replies."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from adapters.manifest import AdapterManifest
from adapters.store import file_hashes
from core.contracts import utc_now
from core.provenance import UNKNOWN, code_revision
from core.settings import PROJECT_ROOT
from train_jobs.qlora.config import QLoraConfig, learned_settings
from train_jobs.qlora.data import Conversations, Messages

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where an adapter comes from."""

    base_revision: str
    tokenizer_revision: str
    dataset: str
    dataset_hash: str
    code_revision: str


def content_hash(files: Sequence[Path]) -> str:
    """SHA-256 over the files' contents in the order of their names."""
    digest = hashlib.sha256()
    for file in sorted(files):
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


@cache
def base_revision(base: str) -> str:
    """Content hash of a local base's weights, worked out once in a process; the commit of a hub model."""
    folder = Path(base)
    if folder.is_dir():
        return content_hash(list(folder.glob("*.safetensors")))
    from transformers import AutoConfig

    return getattr(AutoConfig.from_pretrained(base), "_commit_hash", None) or UNKNOWN


def tokenizer_revision(base: str, tokenizer: Any) -> str:
    """Hash of the tokenizer's definition."""
    file = Path(base) / "tokenizer.json"
    if file.is_file():
        return content_hash([file])
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()


def provenance(base: str, tokenizer: Any, data: Conversations) -> Provenance:
    """Where an adapter comes from that is trained now, on this base and these conversations."""
    return Provenance(
        base_revision=base_revision(base),
        tokenizer_revision=tokenizer_revision(base, tokenizer),
        dataset=data.name,
        dataset_hash=data.digest,
        code_revision=code_revision(),
    )


def portable_base(base: str) -> str:
    """The base's name as it may be written into files that leave this machine."""
    path = Path(base)
    if not path.is_absolute():
        return base
    return path.relative_to(PROJECT_ROOT).as_posix() if path.is_relative_to(PROJECT_ROOT) else path.name


def collect_adapter(checkpoint: Path, folder: Path, base: str) -> None:
    """Copy the adapter out of a checkpoint, with a base name that means the same everywhere."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _save_in_16_bits(checkpoint / ADAPTER_WEIGHTS, folder / ADAPTER_WEIGHTS)
    path = folder / ADAPTER_CONFIG
    settings = json.loads((checkpoint / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    settings["base_model_name_or_path"] = portable_base(base)
    if isinstance(settings["target_modules"], list):
        settings["target_modules"].sort()  # PEFT keeps a set: its order differs from run to run
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _save_in_16_bits(source: Path, target: Path) -> None:
    """The weights as engines serve them anyway: training keeps 32 bits, half of which would only be carried about."""
    import torch
    from safetensors.torch import load_file, save_file

    save_file({name: weight.to(torch.bfloat16) for name, weight in load_file(source).items()}, target)
    target.chmod(0o644)  # it is written for its owner alone


def build_manifest(
    config: QLoraConfig, version: str, origin: Provenance, metrics: dict[str, float], folder: Path
) -> AdapterManifest:
    """The manifest of the adapter in ``folder``."""
    return AdapterManifest(
        persona=config.character,
        version=version,
        **origin_page(config, origin),
        metrics={name: round(value, 4) for name, value in metrics.items()},
        files=file_hashes(folder),
        created_at=utc_now().isoformat(timespec="seconds"),
    )


def origin_page(config: QLoraConfig, origin: Provenance) -> dict[str, Any]:
    """What an adapter comes from, as its manifest has it; a run keeps it as well, published or not."""
    return {
        "base_model": portable_base(config.base_model),
        **asdict(origin),
        "seed": config.seed,
        "arguments": portable_arguments(config),
    }


def portable_arguments(config: QLoraConfig) -> dict[str, Any]:
    """The settings that were learned with, without places on this machine."""
    arguments: dict[str, Any] = learned_settings(config)
    arguments["base_model"] = portable_base(config.base_model)
    if config.data.path:
        arguments["data"] = {**arguments["data"], "path": config.data.path.name}
    return arguments


def samples_page(title: str, prompts: Sequence[Messages], replies: Sequence[str]) -> str:
    """Held-out prompts with the adapter's replies, to be read before it answers anybody."""
    parts = [f"# {title}", "", "Replies to prompts that the training never saw, drawn at temperature 0.7.", ""]
    for prompt, reply in zip(prompts, replies, strict=True):
        parts += [*(f"- {item['role']}: {_one_line(item['content'])}" for item in prompt[1:])]
        parts += [f"- **reply: {_one_line(reply)}**", ""]
    return "\n".join(parts)


def _one_line(text: str) -> str:
    return " / ".join(text.splitlines())
