"""API keys and documents on a real PostgreSQL."""

from secrets import token_hex

import pytest
from sqlalchemy import text

from memory.api_keys import ApiKeys
from memory.database import Database
from memory.documents_store import DocumentStore

pytestmark = pytest.mark.services


@pytest.fixture
async def database(servers):
    database = Database(servers.database_url)
    yield database
    await database.close()


async def test_key_opens_until_it_is_revoked(database):
    keys = ApiKeys(database)
    label = token_hex(4)
    plain = await keys.create(label, ["chat", "admin", "chat"])
    assert await keys.verify(plain) == {"admin", "chat"}
    for wrong in (plain + "x", plain[:-1], "", "am-", "am-\x00", "\ud800"):
        assert await keys.verify(wrong) is None
    listed = next(key for key in await keys.list() if key.label == label)
    assert listed.scopes == ("admin", "chat")
    assert await keys.revoke(listed.key_id)
    assert not await keys.revoke(listed.key_id)
    assert not await keys.revoke("unknown")
    assert await keys.verify(plain) is None


async def test_plain_key_is_not_stored(database):
    plain = await ApiKeys(database).create("secret", ["chat"])
    async with database.transaction() as connection:
        rows = (await connection.execute(text("SELECT api_keys::text FROM api_keys"))).scalars().all()
    assert rows
    assert not any(plain in row or plain.removeprefix("am-") in row for row in rows)


async def test_documents_belong_to_their_persona(database):
    store = DocumentStore(database)
    haneul, sera = token_hex(4), token_hex(4)
    first = await store.add(haneul, "제목", "lore", "본문", 2)
    again = await store.add(haneul, "새 제목", "lore", "본문", 3)
    assert again.document_id == first.document_id
    assert [(d.title, d.chunk_count) for d in await store.list(haneul)] == [("새 제목", 3)]
    other = await store.add(sera, "제목", "lore", "본문", 2)
    assert other.document_id != first.document_id
    assert await store.get(sera, first.document_id) is None
    assert not await store.delete(sera, first.document_id)
    found = await store.get(haneul, first.document_id)
    assert found is not None
    assert found.content == "본문"
    assert [d.content for d in await store.all(haneul)] == ["본문"]
    assert await store.delete(haneul, first.document_id)
    assert await store.list(haneul) == []
    assert len(await store.list(sera)) == 1
