"""The training rows of a data set version at another ratio, as a version of its own.

No row is made or filtered again. The new version takes the same validation side, so that ratios are measured on the
same conversations, and a training side in which persona, worldview and safety have the wanted ratio. All ratios of a
sweep have the same number of training rows, the most that every one of them can have: the mix is compared, not the
amount. Rows of other kinds (identity, multilingual) stay as they are. The rows and the content hash follow from the
version, the ratio and the number of rows alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from core.contracts import utc_now
from core.errors import ConfigurationError
from core.provenance import code_revision
from core.settings import Settings
from data_pipelines.config import RATIO_KINDS
from data_pipelines.manifest import MANIFEST_NAME
from data_pipelines.report import data_card
from data_pipelines.rows import Kind, Row, content_hash
from data_pipelines.shards import write_split
from data_pipelines.stages.mixing import mix
from data_pipelines.store import Dataset, dataset_store

Ratio = tuple[int, int, int]


def common_total(rows: Sequence[Row], ratios: Iterable[Ratio]) -> int:
    """Rows of the three kinds that every ratio can be made with; 0 when a kind that is wanted is missing."""
    have = Counter(row.kind for row in rows)
    return min(
        have[kind] * sum(ratio) // part
        for ratio in ratios
        for kind, part in zip(RATIO_KINDS, ratio, strict=True)
        if part
    )


def mixed_rows(rows: Sequence[Row], ratio: Ratio, total: int, seed: int) -> list[Row]:
    """``total`` rows of the three kinds at the ratio, rounded down by kind, and all rows of other kinds."""
    shares = {kind: total * part // sum(ratio) for kind, part in zip(RATIO_KINDS, ratio, strict=True)}
    wanted: dict[Kind, int] = {**Counter(row.kind for row in rows), **shares}
    return mix(rows, wanted, keep_ratio=True, seed=seed).rows


def mixed_versions(name: str, ratios: dict[str, Ratio], settings: Settings) -> dict[str, str]:
    """The data set versions of the ratios, by their label; those that are not there yet are written.

    Raises:
        ConfigurationError: There is no such version, it lacks a kind, or a ratio is none.
    """
    dataset = dataset_store(settings).open(name)
    rows = dataset.rows("train")
    for label, ratio in ratios.items():
        if sum(ratio) == 0:
            raise ConfigurationError(f"axes.ratio: {label}: not all three can be 0")
    total = common_total(rows, ratios.values())
    if total < sum(map(max, ratios.values())):
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(Counter(row.kind for row in rows).items()))
        raise ConfigurationError(f"axes.ratio: {name} has too few rows for these ratios (training rows: {kinds})")
    return {label: _version(dataset, ratio, total, settings) for label, ratio in ratios.items()}


def version_name(parent: str, ratio: Ratio, total: int) -> str:
    """The derived version's name below its character: parent, ratio, rows."""
    return f"{parent}.{'-'.join(map(str, ratio))}.n{total}"


def _version(parent: Dataset, ratio: Ratio, total: int, settings: Settings) -> str:
    """Write the version, or check that the one of that name is what it would be."""
    before = parent.manifest
    sides = {
        "train": mixed_rows(parent.rows("train"), ratio, total, before.seed),
        "validation": parent.rows("validation"),
    }
    version = version_name(before.version, ratio, total)
    store, name = dataset_store(settings), f"{before.character}@{version}"
    if name in store.names():
        if store.open(name).manifest.content_hash != content_hash(sides):
            raise ConfigurationError(f"{name} is not {before.name} at {ratio}: delete {store.folder(name)}")
        return name
    with store.writing(before.character, version) as folder:
        records = {side: write_split(folder, side, rows) for side, rows in sides.items()}
        rows = [row for side in sides.values() for row in side]
        manifest = before.model_copy(
            update={
                "version": version,
                "content_hash": content_hash(sides),
                "splits": records,
                "kinds": dict(sorted(Counter(row.kind for row in rows).items())),
                "categories": _categories(rows),
                "stages": (),
                "shortfall": {},
                "consents": tuple(sorted({row.consent_id for row in rows if row.consent_id})),
                "parents": {before.name: before.content_hash},
                "code_revision": code_revision(),
                "settings": {**before.settings, "ratio": list(ratio)},
                "created_at": utc_now().isoformat(timespec="seconds"),
            }
        )
        (folder / "README.md").write_text(data_card(manifest), encoding="utf-8")
        (folder / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return name


def _categories(rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    counts = Counter((row.kind, row.category) for row in rows)
    kinds = sorted({kind for kind, _ in counts})
    return {kind: {c: n for (k, c), n in sorted(counts.items()) if k == kind} for kind in kinds}
