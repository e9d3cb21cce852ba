"""Which versions and adapters a consent reaches, and how two versions differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from data_pipelines.manifest import DatasetManifest
from data_pipelines.sources.chat_logs import Consents
from data_pipelines.store import Dataset


@dataclass(frozen=True, slots=True)
class TrainedOn:
    """An adapter and what it says it was trained on."""

    adapter: str
    dataset: str
    dataset_hash: str


@dataclass(frozen=True, slots=True)
class Trace:
    """Everything that one consent touches."""

    consent_id: str
    status: str
    """``live``, ``withdrawn`` or ``unknown`` (in no consents file that was looked at)."""

    versions: tuple[str, ...]
    """Versions that hold rows collected under it."""

    built_on_them: tuple[str, ...]
    """Versions that took rows over from those and hold none of this consent's."""

    adapters: tuple[str, ...]
    """Adapters trained on a version that holds its rows."""


def trace(
    consent_id: str, manifests: Sequence[DatasetManifest], adapters: Iterable[TrainedOn], consents: Consents | None
) -> Trace:
    """Follow a consent to the versions and from there, by name or hash, to the adapters."""
    holding = [manifest for manifest in manifests if consent_id in manifest.consents]
    names = {manifest.name for manifest in holding}
    hashes = {manifest.content_hash for manifest in holding}
    built = [m.name for m in manifests if m.name not in names and names & _ancestors(m, manifests)]
    touched = [one.adapter for one in adapters if one.dataset in names or one.dataset_hash in hashes]
    return Trace(
        consent_id, _status(consent_id, consents), tuple(sorted(names)), tuple(built), tuple(sorted(touched))
    )


def withdrawn(manifest: DatasetManifest, consents: Consents | None) -> list[str]:
    """Consents of a version that were withdrawn since."""
    if consents is None:
        return []
    return [one for one in manifest.consents if (found := consents.by_id.get(one)) and found.withdrawn]


def _ancestors(manifest: DatasetManifest, manifests: Sequence[DatasetManifest]) -> set[str]:
    by_name = {one.name: one for one in manifests}
    found: set[str] = set()
    waiting = list(manifest.parents)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += by_name[name].parents if name in by_name else ()
    return found


def _status(consent_id: str, consents: Consents | None) -> str:
    found = consents.by_id.get(consent_id) if consents else None
    if found is None:
        return "unknown"
    return "withdrawn" if found.withdrawn else "live"


@dataclass(frozen=True, slots=True)
class Difference:
    """What changed from one version to another."""

    rows_gone: int
    rows_new: int
    rows_moved: int
    """Rows that changed sides of the split."""

    kinds: dict[str, tuple[int, int]]
    settings: dict[str, tuple[object, object]]


def difference(before: Dataset, after: Dataset) -> Difference:
    """Rows by id, counts by kind and settings."""
    old, new = _sides(before), _sides(after)
    old_kinds, new_kinds = before.manifest.kinds, after.manifest.kinds
    kinds = {kind: (old_kinds.get(kind, 0), new_kinds.get(kind, 0)) for kind in sorted({*old_kinds, *new_kinds})}
    old_set, new_set = _settings(before.manifest), _settings(after.manifest)
    changed = {
        key: (old_set.get(key), new_set.get(key))
        for key in sorted({*old_set, *new_set})
        if old_set.get(key) != new_set.get(key)
    }
    return Difference(
        rows_gone=len(old.keys() - new.keys()),
        rows_new=len(new.keys() - old.keys()),
        rows_moved=sum(1 for row_id in old.keys() & new.keys() if old[row_id] != new[row_id]),
        kinds={kind: pair for kind, pair in kinds.items() if pair[0] != pair[1]},
        settings=changed,
    )


def _sides(dataset: Dataset) -> dict[str, str]:
    return {row.id: split for split in dataset.manifest.splits for row in dataset.rows(split)}


def _settings(manifest: DatasetManifest) -> dict[str, object]:
    return {**manifest.settings, "code_revision": manifest.code_revision}
