"""Real servers for the integration tests: started once per run, in a folder of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from memory.embedded import RunningServers, running_servers
from memory.migrate import upgrade


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServers]:
    """PostgreSQL (migrated) and Redis that nothing kills: share them, with ids of your own."""
    with running_servers(tmp_path_factory.mktemp("servers") / "home") as running:
        upgrade(running.database_url)
        yield running
