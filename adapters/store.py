"""Adapter files: ``<root>/<persona>/<version>/``, written to a temporary name and renamed, manifest last."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from adapters.manifest import MANIFEST_NAME, AdapterManifest, read_manifest
from core.contracts import AdapterRef
from core.errors import Conflict, NotFound


class AdapterStore:
    """Adapters under one or more roots; the first root takes what is published, all are read."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = tuple(roots)

    def path(self, persona: str, version: str) -> Path:
        """The folder of a published version."""
        for root in self._roots:
            folder = root / persona / version
            if (folder / MANIFEST_NAME).is_file():
                return folder
        raise NotFound(f"no adapter {persona}/{version} under {', '.join(map(str, self._roots))}", "adapter")

    def ref(self, adapter_id: str) -> AdapterRef:
        """``<persona>/<version>`` to a reference with its local path."""
        persona, _, version = adapter_id.partition("/")
        return AdapterRef(persona, version, str(self.path(persona, version)))

    def published(self) -> set[tuple[str, str]]:
        """Persona and version of everything published, without reading a manifest."""
        files = [path for root in self._roots for path in root.glob(f"*/*/{MANIFEST_NAME}")]
        return {(path.parent.parent.name, path.parent.name) for path in files}

    def manifests(self) -> Iterator[AdapterManifest]:
        """All published versions, oldest first."""
        folders = [p.parent for root in self._roots for p in root.glob(f"*/*/{MANIFEST_NAME}")]
        yield from sorted(map(read_manifest, folders), key=lambda manifest: manifest.created_at)

    def publish(self, folder: Path, manifest: AdapterManifest) -> Path:
        """Copy ``folder`` in under the manifest's name. Readers see the whole version or none of it."""
        target = self._roots[0] / manifest.persona / manifest.version
        if target.exists():
            raise Conflict(f"adapter {manifest.persona}/{manifest.version} is there already", "version")
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{manifest.version}-", dir=target.parent))
        try:
            for file in sorted(p for p in folder.iterdir() if p.is_file() and p.name != MANIFEST_NAME):
                shutil.copy2(file, staging / file.name)
            (staging / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
            staging.chmod(0o755)
            staging.rename(target)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        return target


def file_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a version but its manifest."""
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.iterdir())
        if file.is_file() and file.name != MANIFEST_NAME
    }
