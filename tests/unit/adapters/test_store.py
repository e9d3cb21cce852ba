import pytest

from adapters.manifest import AdapterManifest, read_manifest
from adapters.store import AdapterStore, file_hashes
from core.errors import ConfigurationError, Conflict, NotFound


def manifest(version: str = "v1", created_at: str = "2026-01-01T00:00:00Z") -> AdapterManifest:
    return AdapterManifest(
        persona="haneul",
        version=version,
        base_model="base",
        base_revision="b",
        tokenizer_revision="t",
        dataset="d",
        dataset_hash="h",
        code_revision="c",
        seed=1,
        arguments={},
        metrics={},
        files={},
        created_at=created_at,
    )


@pytest.fixture
def trained(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    return folder


def test_a_published_version_is_found_with_its_manifest(tmp_path, trained):
    store = AdapterStore([tmp_path / "own", tmp_path / "shipped"])
    folder = store.publish(trained, manifest())
    assert store.path("haneul", "v1") == folder
    assert store.ref("haneul/v1").path == str(folder)
    assert read_manifest(folder) == manifest()
    assert list(file_hashes(folder)) == ["adapter_model.safetensors"]


def test_versions_are_listed_oldest_first_over_all_roots(tmp_path, trained):
    AdapterStore([tmp_path / "shipped"]).publish(trained, manifest("v1", "2026-01-01"))
    store = AdapterStore([tmp_path / "own", tmp_path / "shipped"])
    store.publish(trained, manifest("v2", "2026-02-01"))
    assert [m.version for m in store.manifests()] == ["v1", "v2"]


def test_a_version_is_written_once(tmp_path, trained):
    store = AdapterStore([tmp_path])
    store.publish(trained, manifest())
    with pytest.raises(Conflict):
        store.publish(trained, manifest())


def test_a_failed_publish_leaves_nothing(tmp_path, trained, monkeypatch):
    store = AdapterStore([tmp_path / "own"])
    monkeypatch.setattr("shutil.copy2", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        store.publish(trained, manifest())
    assert list((tmp_path / "own" / "haneul").iterdir()) == []
    with pytest.raises(NotFound):
        store.path("haneul", "v1")


def test_half_a_version_is_not_a_version(tmp_path):
    (tmp_path / "haneul" / "v1").mkdir(parents=True)
    with pytest.raises(NotFound):
        AdapterStore([tmp_path]).path("haneul", "v1")
    with pytest.raises(ConfigurationError, match="not published whole"):
        read_manifest(tmp_path / "haneul" / "v1")
