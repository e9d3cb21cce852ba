"""Data set versions on disk: ``<home>/datasets/<character>/<version>/``, seen whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from core.errors import ConfigurationError, Conflict, SetupError
from core.settings import Settings, get_settings
from data_pipelines.config import VERSION
from data_pipelines.manifest import MANIFEST_NAME, DatasetManifest, read_manifest
from data_pipelines.rows import Row, content_hash
from data_pipelines.shards import read_shard


@dataclass(frozen=True)
class Dataset:
    """A version whose bytes and rows were checked against its manifest."""

    folder: Path
    manifest: DatasetManifest
    _rows: dict[str, list[Row]]

    def rows(self, split: str) -> list[Row]:
        """The rows of ``train`` or ``validation``, ordered by id."""
        if split not in self._rows:
            raise ConfigurationError(f"{self.manifest.name} has no split {split!r}; it has: {', '.join(self._rows)}")
        return list(self._rows[split])


class DatasetStore:
    """All versions under one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def open(self, name: str) -> Dataset:
        """The version ``<character>@<version>``, verified.

        Raises:
            ConfigurationError: There is none of that name (the message says which there are), or it is damaged.
        """
        folder = self.folder(name)
        manifest = read_manifest(folder)
        if manifest.name != name:
            raise ConfigurationError(f"{folder}: holds {manifest.name}, not {name}; it was moved or copied by hand")
        rows = {
            split: [row for shard in record.shards for row in read_shard(folder, shard)]
            for split, record in manifest.splits.items()
        }
        if content_hash(rows) != manifest.content_hash:
            raise ConfigurationError(f"{name}: its rows do not give the manifest's content hash; build it again")
        return Dataset(folder, manifest, rows)

    def folder(self, name: str) -> Path:
        """Where a version lies; only its manifest is looked for."""
        character, at, version = name.partition("@")
        folder = self.root / character / version
        if not at or not re.match(VERSION, version) or not (folder / MANIFEST_NAME).is_file():
            known = ", ".join(self.names()) or "none yet; make one with `artistmind data build <character>`"
            raise ConfigurationError(
                f"no data set version {name!r} (written <character>@<version>); there are: {known}"
            )
        return folder

    def manifests(self) -> list[DatasetManifest]:
        """All versions, oldest first; rows are not read."""
        found = [read_manifest(path.parent) for path in self.root.glob(f"[!.]*/[!.]*/{MANIFEST_NAME}")]
        return sorted(found, key=lambda manifest: (manifest.created_at, manifest.name))

    def names(self) -> list[str]:
        """Names of all versions."""
        paths = self.root.glob(f"[!.]*/[!.]*/{MANIFEST_NAME}")
        return sorted(f"{path.parent.parent.name}@{path.parent.name}" for path in paths)

    def next_version(self, character: str) -> str:
        """The next free ``v<number>``."""
        folders = (self.root / character).glob("v*")
        numbers = [int(match[1]) for path in folders if (match := re.fullmatch(r"v(\d+)", path.name))]
        return f"v{max(numbers, default=0) + 1}"

    def refuse_existing(self, character: str, version: str) -> None:
        """Versions never change: a name that is taken is an error before any work."""
        if not re.match(VERSION, version):
            raise ConfigurationError(f"version {version!r}: letters, digits, '.', '_' and '-' only, such as v3")
        if (self.root / character / version).exists():
            raise Conflict(f"data set {character}@{version} is there already; choose another version", "version")

    @contextmanager
    def writing(self, character: str, version: str) -> Iterator[Path]:
        """A folder that becomes the version when the block ends well, and vanishes when it does not."""
        target = self.root / character / version
        self.refuse_existing(character, version)
        with _said_plainly(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(prefix=f".{version}-", dir=target.parent))
            try:
                yield staging
                staging.chmod(0o755)
                self.refuse_existing(character, version)
                staging.rename(target)
            except BaseException:
                shutil.rmtree(staging, ignore_errors=True)
                raise


@contextmanager
def _said_plainly(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SetupError(f"no space left for {target}; free some and build again, nothing was kept") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise SetupError(f"{target} cannot be written ({os.strerror(error.errno)})") from error
        raise


def dataset_store(settings: Settings | None = None) -> DatasetStore:
    """The store of the settings' home."""
    return DatasetStore((settings or get_settings()).home_dir / "datasets")


def open_version(name: str, settings: Settings | None = None) -> Dataset:
    """``haneul@v1`` as a checked data set."""
    return dataset_store(settings).open(name)
