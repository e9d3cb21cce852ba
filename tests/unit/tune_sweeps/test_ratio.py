"""A version's rows at other ratios: the same number of them, the same validation side, the same every time."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from core.errors import ConfigurationError
from core.settings import Settings
from data_pipelines.manifest import MANIFEST_NAME, DatasetManifest
from data_pipelines.rows import Kind, Row, content_hash, make_row
from data_pipelines.shards import write_split
from data_pipelines.store import dataset_store
from tune_sweeps.ratio import common_total, mixed_rows, mixed_versions, version_name

RATIOS = {"6:2:2": (6, 2, 2), "5:3:2": (5, 3, 2), "7:2:1": (7, 2, 1)}


def rows(**counts: int) -> list[Row]:
    made = [row(kind, number) for kind, count in counts.items() for number in range(count)]
    return sorted(made, key=lambda one: one.id)


def row(kind: str, number: int) -> Row:
    said = f"{kind} {number}"
    return make_row(
        character_id="haneul",
        dataset_source="grammar",
        kind=kind,
        category=kind,
        messages=({"role": "user", "content": said}, {"role": "assistant", "content": f"{said}!"}),
    )


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A home with ``haneul@v1``: 60 persona, 30 worldview, 12 safety and 5 identity rows to learn from."""
    settings = Settings(home=tmp_path)
    sides = {"train": rows(persona=60, worldview=30, safety=12, identity=5), "validation": rows(multilingual=4)}
    with dataset_store(settings).writing("haneul", "v1") as folder:
        manifest = DatasetManifest(
            character="haneul",
            version="v1",
            content_hash=content_hash(sides),
            splits={side: write_split(folder, side, members) for side, members in sides.items()},
            kinds={},
            categories={},
            stages=(),
            shortfall={},
            sources=(),
            licences=("Apache-2.0",),
            consents=(),
            parents={},
            code_revision="x",
            tools={},
            seed=3,
            settings={"counts": {"persona": 60}},
            created_at="2026-11-21T00:00:00+00:00",
        )
        (folder / MANIFEST_NAME).write_text(manifest.model_dump_json(), encoding="utf-8")
    return settings


def test_each_ratio_becomes_a_version_with_as_many_rows_and_the_same_validation_side(settings: Settings) -> None:
    store = dataset_store(settings)
    parent = store.open("haneul@v1")
    names = mixed_versions("haneul@v1", RATIOS, settings)
    assert names["6:2:2"] == "haneul@v1.6-2-2.n60"
    for label, name in names.items():
        version = store.open(name)  # checks bytes and rows against the manifest
        kinds = Counter(one.kind for one in version.rows("train"))
        parts = [int(part) for part in label.split(":")]
        assert [kinds[kind] for kind in ("persona", "worldview", "safety")] == [60 * part // 10 for part in parts]
        assert kinds["identity"] == 5
        assert version.rows("validation") == parent.rows("validation")
        assert set(version.rows("train")) <= set(parent.rows("train"))
        assert version.manifest.parents == {"haneul@v1": parent.manifest.content_hash}
        assert version.manifest.licences == ("Apache-2.0",)
        assert sum(version.manifest.kinds.values()) == 69


def test_a_version_that_is_there_is_taken_and_a_changed_one_refused(settings: Settings) -> None:
    store = dataset_store(settings)
    names = mixed_versions("haneul@v1", RATIOS, settings)
    written = {name: store.open(name).manifest for name in names.values()}
    assert mixed_versions("haneul@v1", RATIOS, settings) == names
    assert {name: store.open(name).manifest for name in names.values()} == written
    with store.writing("haneul", "other") as folder:
        manifest = store.open(names["6:2:2"]).manifest.model_copy(update={"version": "other"})
        (folder / MANIFEST_NAME).write_text(manifest.model_dump_json(), encoding="utf-8")
    foreign = store.folder(names["6:2:2"])
    (foreign / MANIFEST_NAME).unlink()
    foreign.rename(foreign.with_name("gone"))
    with store.writing("haneul", version_name("v1", (6, 2, 2), 60)) as folder:
        parent = store.open("haneul@v1")
        sides = {"train": parent.rows("train"), "validation": parent.rows("validation")}
        records = {side: write_split(folder, side, members) for side, members in sides.items()}
        changed = parent.manifest.model_copy(update={"version": "v1.6-2-2.n60", "splits": records})
        (folder / MANIFEST_NAME).write_text(changed.model_dump_json(), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"is not haneul@v1 at \(6, 2, 2\)"):
        mixed_versions("haneul@v1", RATIOS, settings)


def test_what_cannot_be_mixed_is_named(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match="no data set version 'haneul@v2'"):
        mixed_versions("haneul@v2", RATIOS, settings)
    with pytest.raises(ConfigurationError, match="not all three can be 0"):
        mixed_versions("haneul@v1", {"0:0:0": (0, 0, 0)}, settings)
    with pytest.raises(ConfigurationError, match="too few rows"):
        mixed_versions("haneul@v1", {"0:0:100": (0, 0, 100)}, settings)


counts = st.fixed_dictionaries({kind: st.integers(0, 12) for kind in ("persona", "worldview", "safety", "identity")})
parts = st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)).filter(any)


@given(counts, st.lists(parts, min_size=1, max_size=3), st.integers(0, 3))
def test_every_ratio_can_be_made_with_the_common_total(
    have: dict[Kind, int], ratios: list[tuple[int, int, int]], seed: int
) -> None:
    found = rows(**have)
    total = common_total(found, ratios)
    assume(total)
    for ratio in ratios:
        mixed = mixed_rows(found, ratio, total, seed)
        kinds = Counter(one.kind for one in mixed)
        wanted = [total * part // sum(ratio) for part in ratio]
        assert [kinds[kind] for kind in ("persona", "worldview", "safety")] == wanted
        assert kinds["identity"] == have["identity"]
        assert mixed == mixed_rows(list(reversed(found)), ratio, total, seed)
        assert len({one.id for one in mixed}) == len(mixed)
