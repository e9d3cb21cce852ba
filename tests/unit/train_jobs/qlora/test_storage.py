"""Where a run is kept: directories, file:// and buckets."""

from pathlib import Path

import pytest
from pyarrow import fs

from core.errors import ConfigurationError, SetupError
from core.settings import get_settings
from train_jobs.qlora import storage as storage_module
from train_jobs.qlora.config import QLoraConfig
from train_jobs.qlora.storage import RunStorage, run_storage, write_text


def of(storage_path: str | Path | None) -> RunStorage:
    return run_storage(QLoraConfig(character="haneul", storage_path=storage_path), get_settings(), "run")


def test_directories_are_local_with_and_without_a_scheme(tmp_path: Path) -> None:
    for given in (tmp_path, str(tmp_path), tmp_path.as_uri()):
        found = of(given)
        assert (found.path, found.folder, found.remote) == (str(tmp_path), tmp_path / "run", False)
    assert of(None).folder == get_settings().home_dir / "training" / "run"


def test_a_file_uri_with_escapes_is_the_folder_that_it_means(tmp_path: Path) -> None:
    assert of((tmp_path / "two words").as_uri()).folder == tmp_path / "two words" / "run"


def test_an_unknown_scheme_is_one_line() -> None:
    with pytest.raises(ConfigurationError, match="storage_path: nowhere://bucket cannot be used") as caught:
        of("nowhere://bucket")
    assert "\n" not in str(caught.value)


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for a bucket: another file system under paths of its own."""
    folder = tmp_path / "bucket"
    folder.mkdir()
    remote = fs.SubTreeFileSystem(str(folder), fs.LocalFileSystem())
    monkeypatch.setattr(storage_module, "filesystem", lambda uri: (remote, "runs"))
    return folder


def test_a_runs_files_go_to_the_bucket_and_come_back_on_another_machine(tmp_path: Path, bucket: Path) -> None:
    here = RunStorage("s3://bucket/runs", tmp_path / "here" / "run", remote=True)
    write_text(here.folder / "run.json", "{}")
    write_text(here.folder / "adapter" / "adapter_config.json", '{"r": 4}')
    here.push("run.json", "adapter")
    assert (bucket / "runs" / "run" / "adapter" / "adapter_config.json").is_file()

    there = RunStorage("s3://bucket/runs", tmp_path / "there" / "run", remote=True)
    there.pull("run.json", "metrics.json", "adapter")
    assert (there.folder / "run.json").read_text(encoding="utf-8") == "{}"
    assert (there.folder / "adapter" / "adapter_config.json").read_text(encoding="utf-8") == '{"r": 4}'
    assert not (there.folder / "metrics.json").exists()


def test_what_the_bucket_does_not_hold_is_not_believed_locally(tmp_path: Path, bucket: Path) -> None:
    storage = RunStorage("s3://bucket/runs", tmp_path / "run", remote=True)
    write_text(storage.folder / "metrics.json", "{}")
    storage.pull("metrics.json")
    assert not (storage.folder / "metrics.json").exists()


def test_a_directory_is_neither_pulled_nor_pushed(tmp_path: Path) -> None:
    storage = RunStorage(str(tmp_path), tmp_path / "run", remote=False)
    write_text(storage.folder / "run.json", "{}")
    storage.push("run.json", "missing")
    storage.pull("run.json", "missing")
    assert (storage.folder / "run.json").is_file()


def test_a_file_is_written_whole_or_the_old_one_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.json"
    write_text(path, "old")

    def full(self: Path, *_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(SetupError, match="No space left"):
        write_text(path, "new")
    assert path.read_text(encoding="utf-8") == "old"
