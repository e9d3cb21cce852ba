"""Progress lines and log files."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from rich.console import Console

from cli.logs import component_names, component_of, log_files, tail
from cli.progress import Progress
from cli.state import RayHead, RayPorts, RunState
from core.errors import SetupError
from core.settings import Settings
from memory.embedded_process import ProcessRecord

PORTS = RayPorts(gcs=1, dashboard=2, client=3, agent=4, haproxy_metrics=5, haproxy_stats=6, fallback=7)


def test_a_file_gets_plain_lines_with_time_and_outcome() -> None:
    out = io.StringIO()
    progress = Progress(Console(file=out, width=40))
    with progress.live(), progress.stage("Ray"):
        progress.say("the dashboard [of Ray], which takes longer than a line")
        progress.say("the dashboard [of Ray], which takes longer than a line")
    lines = out.getvalue().splitlines()
    assert [line[0] for line in lines] == ["…", "✓"]
    assert all("Ray " in line and " s  the dashboard [of Ray], which" in line for line in lines)


def test_a_failed_stage_is_marked_and_the_error_goes_on() -> None:
    out = io.StringIO()
    progress = Progress(Console(file=out))
    with pytest.raises(KeyboardInterrupt), progress.stage("Ray"):
        raise KeyboardInterrupt
    assert out.getvalue().startswith("✗ Ray")


def test_a_terminal_is_redrawn_with_every_stage() -> None:
    out = io.StringIO()
    progress = Progress(Console(file=out, force_terminal=True, width=100))
    with progress.live():
        with progress.stage("preflight"):
            pass
        with progress.stage("Ray"):
            progress.say("[head]")
    shown = out.getvalue()
    assert "preflight" in shown
    assert "[head]" in shown


@pytest.mark.parametrize(
    ("name", "component"),
    [
        ("replica_chat_Gateway_ab12.log", "gateway"),
        ("replica_my_app_MemoryWriter_ab12.log", "memorywriter"),
        ("controller_123.log", "controller"),
        ("proxy_127.0.0.1.log", "proxy"),
    ],
)
def test_a_log_files_component(name: str, component: str) -> None:
    assert component_of(Path(name)) == component


@pytest.fixture
def logged(tmp_path: Path) -> tuple[Settings, RunState]:
    """A home and a Ray session with some logs."""
    settings = Settings(home=tmp_path / "home")
    session = tmp_path / "ray" / "session_latest" / "logs"
    (session / "serve").mkdir(parents=True)
    settings.log_dir.mkdir(parents=True)
    (settings.log_dir / "supervisor.log").write_text("ready\n")
    (settings.log_dir / "postgres.log").write_text("".join(f"{number}\n" for number in range(9)))
    (session / "serve" / "replica_chat_Gateway_a1.log").write_text("served\n")
    (session / "worker-1-01-7.err").write_text(":job_id:1\n:actor_name:ServeReplica:chat:Gateway\nsaid\n")
    (session / "worker-2-01-8.err").write_text(":job_id:1\n:actor_name:ServeReplica:chat:Guard\nsaid\n")
    ray = RayHead(process=ProcessRecord(os.getpid(), 0), ports=PORTS, directory=tmp_path / "ray")
    return settings, RunState(version="1", ray=ray)


def test_a_deployments_logs_are_serves_and_its_own_output(logged: tuple[Settings, RunState]) -> None:
    files = {path.name for path in log_files("Gateway", *logged)}
    assert files == {"replica_chat_Gateway_a1.log", "worker-1-01-7.err"}


def test_servers_are_all_of_them_and_one_can_be_named(logged: tuple[Settings, RunState]) -> None:
    assert {path.name for path in log_files("servers", *logged)} == {"supervisor.log", "postgres.log"}
    assert [path.name for path in log_files("postgres", *logged)] == ["postgres.log"]


def test_an_unknown_component_lists_the_known(logged: tuple[Settings, RunState]) -> None:
    with pytest.raises(SetupError, match="gateway, postgres, ray, servers"):
        log_files("nobody", *logged)
    assert component_names(*logged) == ["gateway", "postgres", "ray", "servers"]


def test_tail_is_the_end(logged: tuple[Settings, RunState]) -> None:
    [path] = log_files("postgres", *logged)
    assert tail(path, 2) == ["7", "8"]
    assert tail(path, 0) == []
