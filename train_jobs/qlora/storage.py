"""Where a run is kept: a directory, or a bucket that Ray Train writes its checkpoints to.

The run's own files (``run.json``, ``metrics.json``, ``samples.md``, ``history.jsonl``, ``adapter/``) are written into
a local folder in either case. With a bucket they are copied there, and taken from there when the command runs again,
maybe on another machine.

The run's lock (``train_jobs.qlora.lock``) lies in the local folder too. Nothing excludes two machines that train the
same run name into one bucket at the same time, which would mix their checkpoints: whoever starts them has to.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from core.errors import ConfigurationError, SetupError
from core.settings import Settings
from train_jobs.qlora.config import QLoraConfig

SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+)://")


@dataclass(frozen=True, slots=True)
class RunStorage:
    """A run's place: ``<storage>/<name>`` for Ray Train, ``folder`` for the run's own files."""

    path: str
    """What Ray Train gets as ``storage_path``: a directory, or a URI."""

    folder: Path
    """The run's local folder; with a directory, Ray Train's own one."""

    remote: bool
    """Whether ``path`` is a URI that this machine's file system does not hold."""

    def pull(self, *names: str) -> None:
        """Make the local files and folders of these names what the bucket holds; nothing to do for a directory."""
        if not self.remote:
            return
        from pyarrow import fs

        bucket, root = self._bucket()
        with self._reached():
            for name in names:
                local = self.folder / name
                kind = bucket.get_file_info(f"{root}/{name}").type
                _remove(local)
                if kind != fs.FileType.NotFound:
                    (local if kind == fs.FileType.Directory else local.parent).mkdir(parents=True, exist_ok=True)
                    fs.copy_files(f"{root}/{name}", str(local), source_filesystem=bucket)

    def push(self, *names: str) -> None:
        """Copy local files and folders to the bucket, the last one last; nothing to do for a directory."""
        if not self.remote:
            return
        from pyarrow import fs

        bucket, root = self._bucket()
        with self._reached():
            bucket.create_dir(root)
            for name in names:
                if (self.folder / name).is_dir():
                    bucket.create_dir(f"{root}/{name}")
                # Uploads from several threads are not safe with S3 (arrow#32372).
                options = {"destination_filesystem": bucket, "use_threads": False}
                fs.copy_files(str(self.folder / name), f"{root}/{name}", **options)

    def siblings(self) -> list[str]:
        """Names of the runs in the bucket."""
        from pyarrow import fs

        bucket, root = self._bucket()
        with self._reached():
            found = bucket.get_file_info(fs.FileSelector(root.rpartition("/")[0], allow_not_found=True))
        return [one.base_name for one in found if one.type == fs.FileType.Directory]

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """One line where the bucket does not answer or refuses; a URI alone does not tell."""
        try:
            yield
        except OSError as error:
            reason = " ".join(str(error).split())[:200]
            raise SetupError(f"storage_path: {self.path} cannot be reached: {reason}") from error

    def _bucket(self) -> tuple[Any, str]:
        bucket, root = filesystem(self.path)
        return bucket, f"{root.rstrip('/')}/{self.folder.name}"

    def require_space(self, needed_bytes: int) -> None:
        """Refuse a directory whose disk cannot hold the run's checkpoints; a bucket is not asked."""
        if self.remote:
            return
        free = shutil.disk_usage(_existing(self.folder)).free
        if free < needed_bytes:
            raise ConfigurationError(
                f"storage_path: {self.path} has {free / 1024**3:.1f} GiB free and the run's checkpoints need "
                f"{needed_bytes / 1024**3:.1f} GiB: free some, lower keep_checkpoints or choose another place"
            )


def run_storage(config: QLoraConfig, settings: Settings, name: str) -> RunStorage:
    """The storage of the run called ``name``.

    Raises:
        ConfigurationError: ``storage_path`` is a URI that is not known.
    """
    given = str(config.storage_path) if config.storage_path else str(settings.home_dir / "training")
    scheme = SCHEME.match(given)
    if scheme is None or scheme[1].lower() == "file":
        path = Path(url2pathname(urlsplit(given).path)) if scheme else settings.resolved(Path(given))
        return RunStorage(str(path), path / name, remote=False)
    filesystem(given)
    return RunStorage(given, settings.home_dir / "training-remote" / name, remote=True)


def run_names(config: QLoraConfig, settings: Settings) -> list[str]:
    """Folders of all runs in the storage of this one."""
    storage = run_storage(config, settings, config.character)
    if storage.remote:
        return storage.siblings()
    return [path.name for path in storage.folder.parent.glob("*") if path.is_dir()]


def filesystem(uri: str) -> tuple[Any, str]:
    """What ``pyarrow`` makes of a URI: the file system and the path on it."""
    import pyarrow
    from pyarrow import fs

    try:
        return fs.FileSystem.from_uri(uri)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigurationError(f"storage_path: {uri} cannot be used: {reason}") from error


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: what reads it never sees half of it."""
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise SetupError(f"{path}: cannot be written ({error.strerror})") from error


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
