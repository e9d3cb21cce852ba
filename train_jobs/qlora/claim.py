"""A run's folder belongs to one set of settings; which version a run trains when none is given.

A run without a given version is called after the next free one. Before that runs out, somebody else may publish it:
the run is then still found by its settings, and goes on under its name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from adapters.store import AdapterStore, file_hashes
from core.errors import ConfigurationError
from core.settings import Settings
from train_jobs.qlora.config import QLoraConfig, learned_settings
from train_jobs.qlora.storage import RunStorage, run_names, run_storage

CLAIM = "run.json"
"""The settings that decide what is learned, and the hashes of data and base."""

FINISHED = "metrics.json"
"""Written last of the training: its presence says that it is finished."""


def changed_settings(claim: Path, mine: Mapping[str, Any], character: str) -> list[str]:
    """Names of the settings in which a claimed folder differs.

    Raises:
        ConfigurationError: The claim cannot be read.
    """
    # A setting that is newer than the run had its default there.
    defaults = learned_settings(QLoraConfig(character=character))
    try:
        before = {**defaults, **json.loads(claim.read_text(encoding="utf-8"))}
    except ValueError as error:
        raise ConfigurationError(f"{claim}: this is no JSON ({error}); delete {claim.parent}") from error
    return sorted(key for key in mine.keys() | before.keys() if mine.get(key) != before.get(key))


def refuse_published(roots: Sequence[Path], config: QLoraConfig) -> None:
    """Refuse a given version that is published already, before hours are spent on it."""
    name = f"{config.character}/{config.version}"
    if config.version and config.publish and any((root / name).exists() for root in roots):
        raise ConfigurationError(f"version: {name} is published already; choose another")


def begun_version(
    mine: Mapping[str, Any], config: QLoraConfig, roots: Sequence[Path], settings: Settings
) -> str | None:
    """Version in the name of the newest run of these settings, data and base that was begun and is not over.

    Args:
        mine: What a claim holds.
        config: The job.
        roots: Where adapters lie.
        settings: Where runs lie.
    """
    runs = {name: number for name in run_names(config, settings) if (number := planned(name, config.character))}
    for name in sorted(runs, key=runs.__getitem__, reverse=True):
        with looked_at(config, settings, name) as storage, suppress(ConfigurationError):
            storage.pull(CLAIM)
            claim = storage.folder / CLAIM
            if claim.is_file() and not changed_settings(claim, mine, config.character):
                storage.pull(FINISHED, "adapter")
                if not is_over(storage.folder, config, roots):
                    return f"v{runs[name]}"
    return None


@contextmanager
def looked_at(config: QLoraConfig, settings: Settings, name: str) -> Iterator[RunStorage]:
    """Another run's storage, of which nothing is changed: what a bucket holds is copied to a place of its own."""
    storage = run_storage(config, settings, name)
    if not storage.remote:
        yield storage
        return
    with TemporaryDirectory(prefix="run-") as scratch:
        yield replace(storage, folder=Path(scratch) / name)


def is_over(run: Path, config: QLoraConfig, roots: Sequence[Path]) -> bool:
    """Whether a run has nothing left to do: it is trained, and published if it is to be."""
    trained = (run / FINISHED).is_file()
    return trained and not (config.publish and published_as(run / "adapter", config, roots) is None)


def published_as(adapter: Path, config: QLoraConfig, roots: Sequence[Path]) -> str | None:
    """The version under which these very files are published; of a given version, only that one."""
    files = file_hashes(adapter)
    for one in AdapterStore(roots).manifests():
        if one.persona == config.character and one.files == files and config.version in (None, one.version):
            return one.version
    return None


def planned(run: str, character: str) -> int:
    """The number in a run's name; 0 where it has none or is another character's."""
    return version_number(run.removeprefix(f"{character}-")) if run.startswith(f"{character}-") else 0


def next_version(roots: Sequence[Path], character: str) -> str:
    """The number after the greatest one that is published."""
    names = [folder.name for root in roots for folder in (root / character).glob("v*")]
    return f"v{max(map(version_number, names), default=0) + 1}"


def version_number(name: str) -> int:
    """12 of ``v12``; 0 of any other name."""
    match = re.fullmatch(r"v(\d+)", name)
    return int(match[1]) if match else 0
