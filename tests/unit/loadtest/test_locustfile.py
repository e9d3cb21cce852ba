"""Locust runs as its own process here as well: gevent must not patch the one that runs the tests."""

import asyncio
import importlib.util
import json
import sys

import pytest

from core.settings import PROJECT_ROOT
from loadtest.mock_server import STATE, Behaviour, make_app, running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("locust") is None, reason="needs the loadtest extra"),
]


async def locust(host: str, *options: str) -> tuple[int | None, str, str]:
    line = [sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py", "--headless", "--host", host]
    process = await asyncio.create_subprocess_exec(
        *line, *options, cwd=PROJECT_ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_fans_chat_and_are_erased() -> None:
    app = make_app(Behaviour(first_token_s=0.01, token_s=0.0, tokens=3))
    async with running(app) as url:
        code, out, err = await locust(
            url, "-u", "2", "-r", "2", "-t", "6s", "--stop-timeout", "20", "--json", "--skip-log-setup"
        )
    assert code == 0, err
    rows = {row["name"]: row for row in json.loads(out)}
    assert rows["ttft"]["num_requests"] == rows["turn"]["num_requests"] > 0
    assert "not durable" not in rows
    assert not app[STATE].fans


async def test_another_host_is_refused_before_the_first_request() -> None:
    code, _, err = await locust("http://10.0.0.1:8000", "-u", "1", "-t", "2s")
    assert code == 1
    assert "is refused" in err
