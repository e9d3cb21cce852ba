"""What is checked before a start, and what it says."""

from __future__ import annotations

import socket
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from cli import preflight
from cli.preflight import ModelNeed
from core.errors import ConfigurationError, SetupError
from core.settings import Settings


def settings_with(models: Path) -> Settings:
    return Settings(models_dir=models)


def shipped_model(models: Path, name: str) -> Path:
    directory = models / name
    directory.mkdir(parents=True)
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(b"weights")
    return directory


@pytest.mark.parametrize("version", [(3, 10), (3, 13), (2, 7)])
def test_other_pythons_are_refused(version: tuple[int, int]) -> None:
    with pytest.raises(SetupError, match=r"use 3\.11 or 3\.12"):
        preflight.check_python(version)


def test_this_python_is_accepted() -> None:
    preflight.check_python()


@pytest.mark.parametrize(
    ("line", "problem"),
    [("no-such-package-here==1.0", "is missing"), ("pytest==0.1", "not 0.1")],
)
def test_an_incomplete_environment_says_what_to_run(tmp_path: Path, line: str, problem: str) -> None:
    lock = tmp_path / "cpu.lock"
    lock.write_text(f"# header\n{line}\n")
    with pytest.raises(SetupError, match=problem) as caught:
        preflight.check_packages(lock)
    assert "make setup" in str(caught.value)


def test_a_local_version_counts_as_the_pinned_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "cpu.lock"
    lock.write_text("torch==2.0\n")
    monkeypatch.setattr(preflight, "_installed", lambda name: "2.0+cpu")
    preflight.check_packages(lock)


def test_many_problems_stay_one_line(tmp_path: Path) -> None:
    lock = tmp_path / "cpu.lock"
    lock.write_text("".join(f"missing-{number}==1\n" for number in range(9)))
    with pytest.raises(SetupError, match="and 6 more"):
        preflight.check_packages(lock)


def test_a_taken_port_names_its_holder() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        with pytest.raises(SetupError, match=r"is taken by pid \d+ \(.+\): use --port or stop it"):
            preflight.check_port(server.getsockname()[1])


def test_a_full_disk_is_refused_even_before_home_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: usage(1, 1, 2**20))
    with pytest.raises(SetupError, match="ARTISTMIND_HOME"):
        preflight.check_disk(tmp_path / "not" / "yet")


@pytest.mark.parametrize(("limit", "bounded"), [("max", False), ("1000", True)])
def test_memory_heeds_the_containers_limit(tmp_path: Path, limit: str, bounded: bool) -> None:
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text("400\n")
    assert (preflight.available_memory(tmp_path) == 600) is bounded


def test_too_little_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "available_memory", lambda: 2**30)
    with pytest.raises(SetupError, match=r"1\.0 GB of memory"):
        preflight.check_memory()


def test_a_whole_model_passes(tmp_path: Path) -> None:
    shipped_model(tmp_path, "base")
    preflight.check_model(ModelNeed("base", "generator.model"), settings_with(tmp_path))


def test_a_hub_name_is_left_to_the_download(tmp_path: Path) -> None:
    preflight.check_model(ModelNeed("Qwen/Qwen2.5-0.5B-Instruct", "generator.model"), settings_with(tmp_path))


@pytest.mark.parametrize("name", ["missing", "./missing", "models/missing", "/nowhere/model"])
def test_a_missing_model_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(SetupError, match=r"generator\.model"):
        preflight.check_model(ModelNeed(name, "generator.model"), settings_with(tmp_path))


def test_empty_and_absent_weights_are_named(tmp_path: Path) -> None:
    directory = shipped_model(tmp_path, "base")
    need = ModelNeed("base", "generator.model")
    (directory / "model.safetensors").write_bytes(b"")
    with pytest.raises(SetupError, match="is empty"):
        preflight.check_model(need, settings_with(tmp_path))
    (directory / "model.safetensors").unlink()
    with pytest.raises(SetupError, match="no weights"):
        preflight.check_model(need, settings_with(tmp_path))


def test_an_empty_adapter_is_named(tmp_path: Path) -> None:
    adapter = tmp_path / "adapters" / "haneul" / "v1"
    adapter.mkdir(parents=True)
    (adapter / "adapter_config.json").write_text("{}")
    (adapter / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(SetupError, match="adapter haneul/v1"):
        preflight.check_adapters(settings_with(tmp_path))


def test_a_wrong_argument_of_the_chat_app_is_named(tmp_path: Path) -> None:
    config: dict[str, Any] = {
        "applications": [{"import_path": "apps.chat.app:build_app", "args": {"generator": {"modell": "x"}}}]
    }
    with pytest.raises(ConfigurationError, match=r"args\.generator\.modell"):
        preflight.check_application(config, settings_with(tmp_path))
