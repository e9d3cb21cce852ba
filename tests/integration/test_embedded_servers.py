"""The supervisor under fire: kill -9 of everything, taken ports, lost files, two supervisors."""

import asyncio
import os
import signal
import socket
import time
from threading import Timer

import psutil
import psycopg
import pytest
import redis

from core.errors import SetupError, StoreUnavailable
from memory.conformance import new_turn
from memory.embedded import read_servers, running_servers
from memory.embedded_process import port_is_free
from memory.embedded_runner import start_supervisor, stop_supervisor, wait_until_ready
from memory.endpoints import RunningServers
from memory.long_term import PostgresMemory
from memory.migrate import upgrade
from memory.short_term import RedisMemory
from memory.spool import drain_spool

pytestmark = pytest.mark.services


def _wait_for(condition, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def _kill(home, name):
    """Kill a server and wait until the supervisor has published the next one."""
    killed = read_servers(home).pids[name]
    os.kill(killed, signal.SIGKILL)
    _wait_for(lambda: read_servers(home).pids[name] != killed)


def _query(servers: RunningServers, statement: str):
    address = servers.database_url.replace("+psycopg", "")
    with psycopg.connect(address, connect_timeout=5, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else None


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A path longer than a Unix socket may have, with a space and Hangul in it."""
    return tmp_path_factory.mktemp("embedded") / ("긴 이름 " + "x" * 120) / "home"


@pytest.fixture(scope="module")
def own(home):
    with running_servers(home) as servers:
        upgrade(servers.database_url)
        yield servers


async def test_stores_survive_repeated_kills(own, home):
    long_term, short_term = PostgresMemory(own.database_url), RedisMemory(own.redis_url)
    turns = [new_turn(number) for number in range(4)]
    for turn in turns:
        await long_term.commit_turn(turn)
        await short_term.spool(turn)
        _kill(home, "postgres")
        _kill(home, "redis")
        await asyncio.sleep(0.1)
    assert read_servers(home).endpoints == own.endpoints
    assert [turn for _, turn in await short_term.spooled()] == turns
    assert await drain_spool(short_term, long_term) == 4
    assert await short_term.spooled() == []
    for turn in turns:
        assert len(await long_term.history(turn.session_id, 20)) == 2
    await long_term.close()
    await short_term.close()


def test_busy_backend_of_a_killed_postmaster_is_cleared(own, home):
    killed = read_servers(home).pids["postgres"]
    connection = psycopg.connect(own.database_url.replace("+psycopg", ""))
    busy = connection.info.backend_pid
    Timer(0.5, lambda: os.kill(killed, signal.SIGKILL)).start()
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT pg_sleep(60)")
    _wait_for(lambda: not psutil.pid_exists(busy))
    _wait_for(lambda: read_servers(home).pids["postgres"] != killed)
    assert _query(own, "SELECT 1") == [(1,)]


def test_addresses_are_private_and_loopback_only(own, home):
    assert (home / "servers.json").stat().st_mode & 0o077 == 0
    assert (home / "embedded.json").stat().st_mode & 0o077 == 0
    with pytest.raises(redis.AuthenticationError):
        redis.Redis.from_url(own.redis_url.replace(own.redis_url.split("@")[0], "redis://:wrong")).ping()
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(own.database_url.replace("+psycopg", "").replace(":", ":x", 2).replace("x//", "//"))
    for pid in read_servers(home).pids.values():
        listening = [c.laddr.ip for c in psutil.Process(pid).net_connections() if c.status == "LISTEN"]
        assert listening == ["127.0.0.1"]
        assert not any(own.redis_url.split(":")[2].split("@")[0] in word for word in psutil.Process(pid).cmdline())


def test_second_supervisor_is_refused(own, home):
    second = start_supervisor(home)
    with pytest.raises(SetupError, match="already run"):
        wait_until_ready(home, second, 30)
    assert _query(own, "SELECT 1") == [(1,)]


def test_data_outlives_stop_taken_port_and_lost_passwords(tmp_path):
    home = tmp_path / "home"
    with running_servers(home) as first:
        pids = [first.supervisor_pid, *first.pids.values()]
        _query(first, "CREATE TABLE kept AS SELECT 42 AS answer")
        redis.Redis.from_url(first.redis_url).set("kept", "yes")
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert read_servers(home) is None

    with running_servers(home) as again:
        assert again.endpoints == first.endpoints
    (home / "embedded.json").unlink()
    with running_servers(home) as new:
        assert new.endpoints != first.endpoints
        assert _query(new, "SELECT answer FROM kept") == [(42,)]
        assert redis.Redis.from_url(new.redis_url).get("kept") == b"yes"

    taken = int(new.redis_url.rpartition(":")[2].split("/")[0])
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", taken))
        squatter.listen()
        assert not port_is_free(taken)
        with running_servers(home) as moved:
            assert moved.redis_url != new.redis_url
            assert moved.database_url == new.database_url
            assert redis.Redis.from_url(moved.redis_url).get("kept") == b"yes"


def test_servers_of_a_killed_supervisor_are_replaced(tmp_path):
    home = tmp_path / "home"
    first = start_supervisor(home)
    before = wait_until_ready(home, first, 90)
    _query(before, "CREATE TABLE kept AS SELECT 42 AS answer")
    first.kill()
    first.wait(5)
    assert _query(before, "SELECT answer FROM kept") == [(42,)], "the servers go on"
    os.kill(before.pids["redis"], signal.SIGSTOP)  # one of them does not even answer any more
    second = start_supervisor(home)
    try:
        after = wait_until_ready(home, second, 90)
        assert after.endpoints == before.endpoints
        assert not set(after.pids.values()) & set(before.pids.values())
        assert not any(psutil.pid_exists(pid) and _is_alive(pid) for pid in before.pids.values())
        assert _query(after, "SELECT answer FROM kept") == [(42,)]
    finally:
        stop_supervisor(second)


def _is_alive(pid):
    return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_failed_start_leaves_nothing_running(tmp_path):
    home = tmp_path / "home"
    with running_servers(home) as servers:
        pass
    assert servers.pids
    aof = home / "redis" / "appendonly.aof"
    aof.write_bytes(b"*1\r\n$1\r\nx\r\nnot an append-only file at all\r\n" * 50)
    supervisor = start_supervisor(home)
    with pytest.raises(SetupError, match="redis does not start"):
        wait_until_ready(home, supervisor, 60)
    assert supervisor.wait(10) == 1
    assert not [p.pid for p in psutil.process_iter(["cmdline"]) if str(home) in " ".join(p.info["cmdline"] or [])]


async def test_frozen_postgres_costs_a_bounded_wait(own, home):
    long_term = PostgresMemory(own.database_url)
    await long_term.ping()
    postmaster = psutil.Process(read_servers(home).pids["postgres"])
    frozen = [postmaster, *postmaster.children(recursive=True)]
    for process in frozen:
        process.suspend()
    try:
        for patience_s in (20, 6):  # the first waits for its query and for cancelling it, the next do not
            async with asyncio.timeout(patience_s):
                with pytest.raises(StoreUnavailable):
                    await long_term.ping()
            await asyncio.sleep(1.1)
    finally:
        for process in frozen:
            process.resume()
    await asyncio.sleep(1.1)
    await long_term.ping()
    await long_term.close()
