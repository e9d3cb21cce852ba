"""Addresses and files around the embedded servers; the servers themselves are in the integration tests."""

import json
import socket
import stat

import pytest

from core.errors import SetupError
from core.settings import Settings
from memory import embedded, embedded_process
from memory.embedded_process import ProcessRecord, choose_port, port_is_free, write_private
from memory.endpoints import Endpoints, RunningServers, endpoints


def _settings(tmp_path, **changes):
    return Settings(home=tmp_path, database_url=None, redis_url=None).model_copy(update=changes)


def test_addresses_come_from_settings_before_the_file(tmp_path):
    running = RunningServers("postgresql+psycopg://a", "redis://a", 1)
    (tmp_path / "servers.json").write_text(running.to_json())
    assert endpoints(_settings(tmp_path)) == Endpoints("postgresql+psycopg://a", "redis://a")
    given = _settings(tmp_path, database_url="postgres://u:p@db/x")
    assert endpoints(given) == Endpoints("postgresql+psycopg://u:p@db/x", "redis://a")


def test_missing_servers_say_what_to_do(tmp_path):
    with pytest.raises(SetupError, match="artistmind up"):
        endpoints(_settings(tmp_path))


def test_given_addresses_need_no_file(tmp_path):
    settings = _settings(tmp_path, database_url="postgresql://db/x", redis_url="redis://r")
    assert endpoints(settings) == Endpoints("postgresql+psycopg://db/x", "redis://r")


def test_private_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "secret.json"
    write_private(path, json.dumps(1))
    write_private(path, json.dumps(2))
    assert path.read_text() == "2"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["secret.json"]


def test_unwritable_place_is_named(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(SetupError, match="file"):
        write_private(blocked / "inside.json", "{}")
    with pytest.raises(SetupError, match=str(blocked)):
        embedded.Supervisor(_settings(tmp_path, home=blocked / "home")).run()


def test_full_disk_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded_process, "MINIMUM_FREE_BYTES", 2**60)
    with pytest.raises(SetupError, match=r"disk of .* is full"):
        embedded.Supervisor(_settings(tmp_path)).run()
    assert not (tmp_path / "postgres").exists()


def test_taken_port_is_seen():
    port = choose_port()
    assert port_is_free(port)
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        assert not port_is_free(port)


def test_reused_process_number_is_not_the_process():
    import os

    mine = ProcessRecord.of(os.getpid())
    assert mine.living() is not None
    assert ProcessRecord(mine.pid, mine.created - 100).living() is None


def test_broken_address_file_says_what_to_do(tmp_path):
    (tmp_path / "embedded.json").write_text("{}")
    with pytest.raises(SetupError, match="delete it"):
        embedded.Supervisor(_settings(tmp_path)).run()
