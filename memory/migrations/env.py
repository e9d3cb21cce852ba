"""Alembic's entry: runs on the connection that ``memory.migrate`` hands over, inside its transaction."""

from __future__ import annotations

from typing import Any

from alembic import context

from core.errors import ConfigurationError
from memory.tables import ADAPTER_TABLES, Base


def _is_ours(name: str | None, kind: str, parent_names: Any) -> bool:
    return not (kind == "table" and name in ADAPTER_TABLES)


def _run() -> None:
    connection = context.config.attributes.get("connection")
    if connection is None:
        raise ConfigurationError("migrations run through memory.migrate, which brings the connection")
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_name=_is_ours,
        compare_type=True,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


_run()
