"""Versions on disk: whole or not there at all, and checked when they are read."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from core.errors import ConfigurationError, Conflict, SetupError
from data_pipelines import shards
from data_pipelines.lineage import TrainedOn, difference, trace, withdrawn
from data_pipelines.manifest import MANIFEST_NAME, DatasetManifest
from data_pipelines.rows import Row, content_hash, make_row
from data_pipelines.shards import write_split
from data_pipelines.sources.chat_logs import Consents, read_consents
from data_pipelines.store import DatasetStore


def rows(*said: str, consent_id: str | None = None) -> list[Row]:
    made = [
        make_row(
            character_id="haneul",
            dataset_source="seeds",
            kind="persona",
            category="talk",
            consent_id=consent_id,
            timestamp="2026-11-01T00:00:00+00:00" if consent_id else None,
            messages=({"role": "user", "content": one}, {"role": "assistant", "content": f"{one}, 그래"}),
        )
        for one in said
    ]
    return sorted(made, key=lambda row: row.id)


def publish(store: DatasetStore, version: str, sides: dict[str, list[Row]], **values: Any) -> DatasetManifest:
    with store.writing("haneul", version) as folder:
        records = {side: write_split(folder, side, members, rows_per_shard=2) for side, members in sides.items()}
        every = [row for members in sides.values() for row in members]
        manifest = DatasetManifest(
            character="haneul",
            version=version,
            content_hash=content_hash(sides),
            splits=records,
            kinds={"persona": len(every)},
            categories={},
            stages=(),
            shortfall={},
            sources=(),
            licences=(),
            consents=tuple(sorted({row.consent_id for row in every if row.consent_id})),
            code_revision="x",
            tools={},
            created_at=f"2026-11-2{version[1:]}T00:00:00+00:00",
            **{"parents": {}, "seed": 0, "settings": {}, **values},
        )
        (folder / MANIFEST_NAME).write_text(manifest.model_dump_json(), encoding="utf-8")
    return manifest


@pytest.fixture
def store(tmp_path: Path) -> DatasetStore:
    return DatasetStore(tmp_path / "datasets")


SIDES = {"train": rows("하나", "둘", "셋", "넷", "다섯", consent_id="c-1"), "validation": rows("여섯")}


def test_what_was_written_is_read_back(store: DatasetStore) -> None:
    publish(store, "v1", SIDES)
    dataset = store.open("haneul@v1")
    assert {side: dataset.rows(side) for side in SIDES} == SIDES
    assert len(list((dataset.folder / "train").glob("*.parquet"))) == 3
    with pytest.raises(ConfigurationError, match="no split 'test'"):
        dataset.rows("test")


def test_an_empty_side_can_be_read_back(store: DatasetStore) -> None:
    publish(store, "v1", {"train": rows("하나"), "validation": []})
    assert store.open("haneul@v1").rows("validation") == []


@pytest.mark.parametrize("name", ["haneul@v9", "haneul", "mir@v1", "haneul@../v1", "@", "haneul@"])
def test_an_unknown_version_says_which_there_are(store: DatasetStore, name: str) -> None:
    publish(store, "v1", SIDES)
    with pytest.raises(ConfigurationError, match="there are: haneul@v1"):
        store.open(name)


def test_a_damaged_shard_is_named(store: DatasetStore) -> None:
    publish(store, "v1", SIDES)
    shard = store.folder("haneul@v1") / "train" / "part-00001.parquet"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(bytes(content))
    with pytest.raises(ConfigurationError, match=r"part-00001\.parquet: is not what was written"):
        store.open("haneul@v1")
    shard.unlink()
    with pytest.raises(ConfigurationError, match="is missing"):
        store.open("haneul@v1")


def test_a_manifest_that_claims_another_hash_is_found_out(store: DatasetStore) -> None:
    publish(store, "v1", SIDES)
    path = store.folder("haneul@v1") / MANIFEST_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), "content_hash": "0" * 64}))
    with pytest.raises(ConfigurationError, match="do not give the manifest's content hash"):
        store.open("haneul@v1")


def test_a_renamed_version_is_found_out(store: DatasetStore) -> None:
    publish(store, "v1", SIDES)
    store.folder("haneul@v1").rename(store.root / "haneul" / "v2")
    with pytest.raises(ConfigurationError, match="holds haneul@v1, not haneul@v2"):
        store.open("haneul@v2")


def test_a_full_disk_leaves_nothing_behind(store: DatasetStore, monkeypatch: pytest.MonkeyPatch) -> None:
    written = 0
    write = shards._write

    def until_full(folder: Path, name: str, members: Any) -> Any:
        nonlocal written
        written += 1
        if written > 2:
            (folder / name).write_bytes(b"PAR1 half a shard")
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(folder, name, members)

    monkeypatch.setattr(shards, "_write", until_full)
    with pytest.raises(SetupError, match="no space left"):
        publish(store, "v1", SIDES)
    assert list((store.root / "haneul").iterdir()) == []
    monkeypatch.undo()
    publish(store, "v1", SIDES)
    assert store.names() == ["haneul@v1"]


def test_a_version_in_the_making_is_not_seen(store: DatasetStore) -> None:
    with store.writing("haneul", "v1") as folder:
        (folder / MANIFEST_NAME).write_text("{}", encoding="utf-8")
        assert store.names() == []
        assert store.manifests() == []


def test_versions_never_change(store: DatasetStore) -> None:
    assert store.next_version("haneul") == "v1"
    publish(store, "v1", SIDES)
    assert store.next_version("haneul") == "v2"
    with pytest.raises(Conflict, match="there already"):
        store.refuse_existing("haneul", "v1")
    with pytest.raises(ConfigurationError, match="letters, digits"):
        store.refuse_existing("haneul", "../v1")


def test_a_consent_is_followed_to_versions_and_adapters(store: DatasetStore, tmp_path: Path) -> None:
    first = publish(store, "v1", SIDES)
    publish(store, "v2", {"train": rows("일곱"), "validation": []}, parents={"haneul@v1": first.content_hash})
    publish(store, "v3", {"train": rows("여덟"), "validation": []})
    adapters = [
        TrainedOn("haneul/a1", "haneul@v1", "?"),
        TrainedOn("haneul/a2", "renamed", first.content_hash),
        TrainedOn("haneul/a3", "haneul@v3", "?"),
    ]
    line = {"consent_id": "c-1", "fan_id": "f", "scope": "training", "granted_at": "2026-01-01T00:00:00Z"}
    path = tmp_path / "consents.jsonl"
    path.write_text(json.dumps({**line, "withdrawn_at": "2026-11-10T00:00:00Z"}), encoding="utf-8")
    consents = read_consents(path)
    found = trace("c-1", store.manifests(), adapters, consents)
    assert (found.status, found.versions, found.built_on_them) == ("withdrawn", ("haneul@v1",), ("haneul@v2",))
    assert found.adapters == ("haneul/a1", "haneul/a2")
    assert withdrawn(first, consents) == ["c-1"]
    assert trace("c-2", store.manifests(), adapters, Consents({})).versions == ()


def test_the_difference_of_two_versions(store: DatasetStore) -> None:
    publish(store, "v1", SIDES)
    moved = {"train": [*SIDES["train"][1:], *rows("일곱")], "validation": [*SIDES["validation"], SIDES["train"][0]]}
    publish(store, "v2", moved, settings={"seed": 1})
    found = difference(store.open("haneul@v1"), store.open("haneul@v2"))
    assert (found.rows_new, found.rows_gone, found.rows_moved) == (1, 0, 1)
    assert found.kinds == {"persona": (6, 7)}
    assert found.settings == {"seed": (None, 1)}
