"""A run's folder belongs to one set of settings; which version a run trains when none is given.

A run without a given version is called after the next free one. Before that runs out, somebody else may publish it:
the run is then still found by its settings, and goes on under its name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.errors import ConfigurationError
from core.settings import Settings
from train_jobs.qlora.config import QLoraConfig, learned_settings
from train_jobs.qlora.storage import run_names, run_storage

CLAIM = "run.json"
"""The settings that decide what is learned, and the hashes of data and base."""

HASHES = frozenset({"dataset_hash", "base_revision"})

FINISHED = "metrics.json"
"""Written last of the training: its presence says that it is finished."""

PUBLISHED = "published.json"
"""Under which version the run's adapter was published."""


def changed_settings(claim: Path, mine: Mapping[str, Any], character: str) -> list[str]:
    """Names of the settings in which a claimed folder differs. Hashes are compared only if they are in ``mine``."""
    # A setting that is newer than the run had its default there.
    defaults = learned_settings(QLoraConfig(character=character))
    before = {**defaults, **json.loads(claim.read_text(encoding="utf-8"))}
    compared = mine.keys() | (before.keys() - HASHES)
    return sorted(key for key in compared if mine.get(key) != before.get(key))


def chosen_version(roots: Sequence[Path], config: QLoraConfig, settings: Settings) -> str:
    """The version to train: the given one, that of a run of these settings that is not over, or the next free one.

    Raises:
        ConfigurationError: The given one is published already; found before hours are spent on it.
    """
    if config.version is None:
        return begun_version(config, settings) or next_version(roots, config.character)
    if config.publish and any((root / config.character / config.version).exists() for root in roots):
        raise ConfigurationError(f"version: {config.character}/{config.version} is published already; choose another")
    return config.version


def begun_version(config: QLoraConfig, settings: Settings) -> str | None:
    """Version in the name of the newest run of these settings that was begun and is not over."""
    mine, over = learned_settings(config), PUBLISHED if config.publish else FINISHED
    runs = {name: number for name in run_names(config, settings) if (number := planned(name, config.character))}
    for name in sorted(runs, key=runs.__getitem__, reverse=True):
        storage = run_storage(config, settings, name)
        storage.pull(CLAIM, over)
        claim = storage.folder / CLAIM
        if (
            claim.is_file()
            and not (storage.folder / over).exists()
            and not changed_settings(claim, mine, config.character)
        ):
            return f"v{runs[name]}"
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
