"""The migrations build what the models say, and can be undone."""

import pytest
from sqlalchemy import NullPool, create_engine, inspect, text

from memory.migrate import check, downgrade, upgrade
from memory.tables import ADAPTER_TABLES, Base

pytestmark = pytest.mark.services


@pytest.fixture
def empty_database(servers):
    admin = create_engine(servers.database_url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with admin.connect() as connection:
        connection.execute(text("CREATE DATABASE migrations"))
    yield servers.database_url.rpartition("/")[0] + "/migrations"
    with admin.connect() as connection:
        connection.execute(text("DROP DATABASE migrations WITH (FORCE)"))


def _tables(database_url):
    engine = create_engine(database_url, poolclass=NullPool)
    with engine.connect() as connection:
        return set(inspect(connection).get_table_names())


def test_up_down_up_and_agreement_with_the_models(empty_database):
    upgrade(empty_database)
    check(empty_database)
    assert _tables(empty_database) == set(Base.metadata.tables) | ADAPTER_TABLES | {"alembic_version"}
    downgrade(empty_database)
    assert _tables(empty_database) == {"alembic_version"}
    upgrade(empty_database)
    upgrade(empty_database)
    check(empty_database)
