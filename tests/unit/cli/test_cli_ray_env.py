"""The environment of our Ray: its own token, ports and files, and nothing of another cluster's."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli import ray_env
from cli.processes import OWNER_VARIABLE
from cli.ray_head import logical_cpus, ray_command
from cli.state import RayHead, RayPorts
from core.errors import SetupError
from core.settings import PROJECT_ROOT, Settings
from memory.embedded_process import ProcessRecord

PORTS = RayPorts(gcs=1, dashboard=2, client=3, agent=4, haproxy_metrics=5, haproxy_stats=6, fallback=7)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", port=8123)


def test_another_clusters_address_does_not_reach_our_head(settings: Settings, tmp_path: Path) -> None:
    base = {"RAY_ADDRESS": "10.0.0.1:6379", "RAY_AUTH_TOKEN": "theirs", "PATH": "/bin", "HF_HUB_OFFLINE": "1"}
    made = ray_env.head_env(settings, PORTS, tmp_path, base)
    assert not {"RAY_ADDRESS", "RAY_AUTH_TOKEN"} & set(made)
    assert made["HF_HUB_OFFLINE"] == "1"
    assert made["ARTISTMIND_PORT"] == "8123"
    assert made["RAY_SERVE_HAPROXY_STATS_PORT"] == "6"
    assert made["PATH"].endswith(":/bin")


def test_defaults_yield_to_the_caller_and_needs_do_not(settings: Settings, tmp_path: Path) -> None:
    base = {"VLLM_LOGGING_LEVEL": "DEBUG", "RAY_AUTH_MODE": "disabled"}
    made = ray_env.head_env(settings, PORTS, tmp_path, base)
    assert made["VLLM_LOGGING_LEVEL"] == "DEBUG"
    assert made["RAY_AUTH_MODE"] == "token"


def test_the_offline_switch_is_not_ours_to_set(settings: Settings, tmp_path: Path) -> None:
    assert "HF_HUB_OFFLINE" not in ray_env.head_env(settings, PORTS, tmp_path, {})


def test_a_clients_environment_does_not_carry_the_mark(settings: Settings, tmp_path: Path) -> None:
    head = RayHead(process=ProcessRecord(1, 1), ports=PORTS, directory=tmp_path)
    made = ray_env.client_env(settings, head, {"PYTHONPATH": "/mine"})
    assert OWNER_VARIABLE not in made
    assert made["RAY_API_SERVER_ADDRESS"] == "http://127.0.0.1:2"
    assert made["PYTHONPATH"] == f"{PROJECT_ROOT}:/mine"


def test_paths_do_not_grow_when_evaluated_twice(settings: Settings, tmp_path: Path) -> None:
    head = RayHead(process=ProcessRecord(1, 1), ports=PORTS, directory=tmp_path)
    once = ray_env.client_env(settings, head, {"PATH": "/bin"})
    assert ray_env.client_env(settings, head, once) == once


def test_the_token_is_private_and_stays(tmp_path: Path) -> None:
    token = ray_env.ensure_token(tmp_path)
    assert len(token) == 64
    assert ray_env.ensure_token(tmp_path) == token
    assert ray_env.token_path(tmp_path).stat().st_mode & 0o077 == 0


def test_rays_directory_is_short_private_and_one_per_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_env.tempfile, "gettempdir", lambda: str(tmp_path))
    first = ray_env.ray_directory(Path("/a"))
    assert ray_env.ray_directory(Path("/a")) == first != ray_env.ray_directory(Path("/b"))
    assert first.stat().st_mode & 0o077 == 0
    assert len(first.name) < 25


def test_rays_directory_is_never_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_env.tempfile, "gettempdir", lambda: str(tmp_path))
    directory = ray_env.ray_directory(Path("/a"))
    directory.rmdir()
    directory.symlink_to(tmp_path)
    with pytest.raises(SetupError, match="TMPDIR"):
        ray_env.ray_directory(Path("/a"))


def test_ports_are_all_different() -> None:
    ports = list(ray_env.choose_ports().model_dump().values())
    assert len(set(ports)) == len(ports)


def test_the_head_listens_on_loopback_and_small_machines_get_enough_cpus(tmp_path: Path) -> None:
    command = ray_command(PORTS, tmp_path, logical_cpus(None))
    assert command[command.index("--node-ip-address") + 1] == "127.0.0.1"
    assert int(command[command.index("--num-cpus") + 1]) >= 8
    assert logical_cpus(3) == 3
