"""The written state and the lock."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.state import DeployedGraph, RayHead, RayPorts, RunState, exclusive, load_state, save_state
from core.errors import SetupError
from memory.embedded_process import ProcessRecord

PORTS = RayPorts(gcs=1, dashboard=2, client=3, agent=4, haproxy_metrics=5, haproxy_stats=6, fallback=7)


def test_state_survives_the_disk(tmp_path: Path) -> None:
    state = RunState(
        version="1",
        servers=ProcessRecord(10, 1.5),
        ray=RayHead(process=ProcessRecord(11, 2.5), ports=PORTS, directory=tmp_path),
        graph=DeployedGraph(config=tmp_path / "a.yaml", digest="d", host="127.0.0.1", port=8000),
    )
    save_state(tmp_path, state)
    assert load_state(tmp_path) == state
    assert [daemon.pid for daemon in state.daemons if daemon] == [10, 11]


@pytest.mark.parametrize("text", ["", "{}", '{"version": 1, "unknown": 2}', "not json"])
def test_an_unreadable_state_is_an_empty_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    assert load_state(tmp_path).daemons == (None, None)


def test_state_is_private(tmp_path: Path) -> None:
    save_state(tmp_path, RunState(version="1"))
    assert (tmp_path / "state.json").stat().st_mode & 0o077 == 0


def test_two_commands_do_not_meet(tmp_path: Path) -> None:
    with exclusive(tmp_path), pytest.raises(SetupError, match="pid"), exclusive(tmp_path):
        pass
    with exclusive(tmp_path):
        pass


def test_a_graph_on_all_interfaces_is_reached_on_loopback(tmp_path: Path) -> None:
    graph = DeployedGraph(config=tmp_path, digest="", host="0.0.0.0", port=80)
    assert graph.url == "http://127.0.0.1:80"
