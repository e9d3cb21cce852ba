"""An adapter merged into its base, for servers that take whole models only, and a check that it answers the same.

The base is loaded in 16 bits, never in 4: a merge into 4-bit weights is rounded away for the most part::

    python -m train_jobs.merge --adapter haneul/v5 --out outputs/merged/haneul-v5
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from adapters.manifest import MANIFEST_NAME, AdapterManifest, read_manifest
from adapters.store import AdapterStore, file_hashes
from core.contracts import utc_now
from core.errors import ArtistMindError, ConfigurationError, NotFound, SetupError
from core.logs import get_logger, setup_logging
from core.provenance import UNKNOWN, code_revision
from core.settings import Settings, get_settings
from train_jobs.agreement import (
    Agreement,
    Check,
    add_check_options,
    check_of,
    check_writable,
    compare_model,
    conclude,
    load_model,
    reference_turns,
)
from train_jobs.qlora.publish import (
    ADAPTER_CONFIG,
    base_revision,
    content_hash,
    portable_base,
    tokenizer_revision,
)
from train_jobs.reference.output import swap_in

PROVENANCE_NAME = "provenance.json"
SPARE = 1.05
"""Room asked for on the disk, as a multiple of the weights: the tokenizer and the configuration come along."""


class MergeOrigin(BaseModel):
    """Where a merged model comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    made_by: Literal["train_jobs.merge"] = "train_jobs.merge"
    """What may write over the folder."""

    adapter: str
    """``<persona>/<version>``, or the folder's name of an adapter that was not published."""

    adapter_files: dict[str, str]
    """File name → SHA-256."""

    base_model: str
    """Name under ``models/`` or hub id."""

    base_revision: str
    """Content hash of a local base's weights, or the commit of a hub model."""

    tokenizer_revision: str
    """Hash of the tokenizer's definition."""

    weights: str
    """Hash of the merged weights, as ``base_revision`` counts it."""

    dtype: str
    """What the base was loaded in, and the weights are saved in."""

    tools: dict[str, str]
    """Version of each library that had a hand in it."""

    code_revision: str
    """Commit of the code."""

    created_at: str
    """UTC, ISO 8601."""


@dataclass(frozen=True, slots=True)
class FoundAdapter:
    """An adapter on this machine."""

    name: str
    folder: Path
    manifest: AdapterManifest | None
    """``None``: it was not published, so nothing says which base it belongs to."""


def find_adapter(text: str, settings: Settings) -> FoundAdapter:
    """The adapter of a name or a folder, its files checked against its manifest.

    Raises:
        ConfigurationError: There is none, or its files are not the published ones.
    """
    folder = Path(text)
    if not (folder / ADAPTER_CONFIG).is_file():
        try:
            folder = AdapterStore(settings.adapter_roots).path(*_persona_and_version(text))
        except NotFound as error:
            raise ConfigurationError(
                f"{error}; give <persona>/<version>, or a folder with {ADAPTER_CONFIG}"
            ) from error
    if not (folder / MANIFEST_NAME).is_file():
        return FoundAdapter(folder.resolve().name, folder, None)
    manifest = read_manifest(folder)
    name = f"{manifest.persona}/{manifest.version}"
    found = file_hashes(folder)
    changed = sorted(file for file, digest in manifest.files.items() if found.get(file) != digest)
    if changed:
        raise ConfigurationError(f"adapter {name}: {', '.join(changed)} is not what was published; publish it again")
    return FoundAdapter(name, folder, manifest)


def _persona_and_version(text: str) -> tuple[str, str]:
    persona, _, version = text.partition("/")
    return persona, version


def base_of(adapter: FoundAdapter, named: str | None, settings: Settings) -> str:
    """The base's folder or hub name: the one that was given, or the one that the adapter was trained on.

    Raises:
        ConfigurationError: It holds no model, or a quantised one.
    """
    from transformers import AutoConfig

    name = named or (adapter.manifest.base_model if adapter.manifest else _base_in_config(adapter.folder))
    base = settings.model_path(name)
    try:
        config = AutoConfig.from_pretrained(base)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"base {name}: no model is there; name another one with --base") from error
    if getattr(config, "quantization_config", None):
        raise ConfigurationError(f"base {name} is quantised; merge into the 16-bit one that it was made from")
    return base


def _base_in_config(folder: Path) -> str:
    settings = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    name: str = settings.get("base_model_name_or_path") or ""
    return name


def check_base(adapter: FoundAdapter, revision: str, tokenizer: str) -> None:
    """Refuse a base other than the one that the adapter was trained on.

    Args:
        adapter: What is to be merged.
        revision: The base's ``base_revision``.
        tokenizer: The base's ``tokenizer_revision``.
    """
    if not adapter.manifest:
        get_logger("merge").warning("no manifest says which base the adapter belongs to", adapter=adapter.name)
        return
    trained = adapter.manifest
    pairs = (("base", trained.base_revision, revision), ("tokenizer", trained.tokenizer_revision, tokenizer))
    for what, expected, found in pairs:
        if expected not in (found, UNKNOWN):
            raise ConfigurationError(
                f"adapter {adapter.name} was trained on another {what} ({trained.base_model}, {expected[:12]}…) than "
                f"this one ({found[:12]}…): name the right base with --base, or train the adapter again"
            )


def check_output(out: Path, own: type[BaseModel]) -> None:
    """Refuse to write over anything but what the same command made: ``own`` is the shape of its provenance."""
    check_writable(out.parent)
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        own.model_validate_json((out / PROVENANCE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise ConfigurationError(
            f"{out} is there already and was not made by this command: choose another"
        ) from error


def check_space(out: Path, model: str) -> None:
    """Refuse to begin what the disk of ``out`` cannot hold; the size of a hub model is not known and not checked."""
    needed = SPARE * sum(file.stat().st_size for file in Path(model).glob("*.safetensors"))
    parent = next(folder for folder in out.parents if folder.is_dir())
    free = shutil.disk_usage(parent).free
    if free < needed:
        raise SetupError(f"{parent} has {free / 2**30:.1f} GiB free, {needed / 2**30:.1f} GiB are needed: make room")


def merge(adapter: FoundAdapter, base: str, out: Path, dtype: str, check: Check) -> Agreement:
    """Write base and adapter as one model, with its provenance and its agreement with the unmerged two.

    The folder appears at ``out`` when everything in it is written and the agreement is high enough.

    Args:
        adapter: What is merged.
        base: Folder or hub name of what it is merged into.
        out: Folder that takes the merged model.
        dtype: ``bfloat16`` or ``float16``.
        check: How the agreement is measured.

    Raises:
        ConfigurationError: The base is not the adapter's, or the adapter does not fit it.
        ArtistMindError: Fewer tokens agree than demanded.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    revision, definition = base_revision(base), tokenizer_revision(base, tokenizer)
    check_base(adapter, revision, definition)
    model = load_with_adapter(base, adapter, check.device, dtype)
    unmerged = f"{Path(base).name} + {adapter.name}"
    turns = reference_turns(model, tokenizer, check)
    with swap_in(out) as folder:
        save_merged(model, adapter, folder)
        tokenizer.save_pretrained(folder)
        origin = MergeOrigin(
            adapter=adapter.name,
            adapter_files=file_hashes(adapter.folder),
            base_model=portable_base(base),
            base_revision=revision,
            tokenizer_revision=definition,
            weights=content_hash(list(folder.glob("*.safetensors"))),
            dtype=dtype,
            tools={name: version(name) for name in ("peft", "torch", "transformers")},
            code_revision=code_revision(),
            created_at=utc_now().isoformat(timespec="seconds"),
        )
        (folder / PROVENANCE_NAME).write_text(origin.model_dump_json(indent=2) + "\n", encoding="utf-8")
        del model  # one model at a time: what was saved is read again, as a server will
        found = compare_model(turns, unmerged, folder, check.device, name=f"merged {adapter.name}")
        return conclude(found, folder, check.minimum)


def character_of(adapter: FoundAdapter, named: str | None) -> str:
    """Whose held-out prompts the check asks."""
    if named:
        return named
    if adapter.manifest:
        return adapter.manifest.persona
    raise ConfigurationError(f"adapter {adapter.name} has no manifest: say whose it is with --character")


def load_with_adapter(base: str, adapter: FoundAdapter, device: str, dtype: str) -> Any:
    """The base in 16 bits with the adapter beside it, as serving runs the two."""
    from peft import PeftModel

    model = load_model(base, device, dtype)
    try:
        return PeftModel.from_pretrained(model, str(adapter.folder)).eval()
    except (RuntimeError, ValueError) as error:  # layers that are missing or have another shape
        reason = " ".join(str(error).split())[:200]
        raise ConfigurationError(f"adapter {adapter.name} does not fit {Path(base).name}: {reason}") from error


def save_merged(model: Any, adapter: FoundAdapter, folder: Path) -> None:
    """Add the adapter to the base's weights and save them, with the generation settings."""
    try:
        merged = model.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise ConfigurationError(f"adapter {adapter.name}: {error}") from error
    merged.save_pretrained(folder)


def parser() -> argparse.ArgumentParser:
    described = argparse.ArgumentParser(prog="python -m train_jobs.merge", description=__doc__.splitlines()[0])
    described.add_argument("--adapter", required=True, help="<persona>/<version>, or a folder in PEFT's format")
    described.add_argument("--out", type=Path, required=True, help="folder that takes the merged model")
    described.add_argument("--base", help="name, folder or hub name; unset: the adapter's own")
    described.add_argument("--dtype", choices=("bfloat16", "float16"), default="bfloat16", help="16-bit format")
    add_check_options(described, character="whose held-out prompts are asked; unset: the adapter's own")
    return described


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, merge, check. 2: the settings are wrong and nothing was written; 1: the merge or its check failed."""
    options = parser().parse_args(arguments)
    try:
        settings = get_settings()
        setup_logging(settings)
        out = options.out.resolve()
        check_output(out, MergeOrigin)
        adapter = find_adapter(options.adapter, settings)
        base = base_of(adapter, options.base, settings)
        check_space(out, base)
        merge(adapter, base, out, options.dtype, check_of(options, character_of(adapter, options.character)))
    except ArtistMindError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigurationError) else 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
