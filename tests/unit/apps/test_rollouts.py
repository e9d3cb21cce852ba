import asyncio

import pytest

from adapters.manifest import AdapterManifest
from adapters.rollout import RolloutTable
from adapters.store import AdapterStore
from apps.chat.rollouts import Rollouts
from core.errors import StoreUnavailable


class FakeRegistry:
    """The table in memory; ``down`` makes it unreachable."""

    def __init__(self):
        self.kept = RolloutTable()
        self.events = []
        self.down = False

    async def table(self):
        if self.down:
            raise StoreUnavailable("PostgreSQL does not answer", "postgres")
        return self.kept

    async def apply(self, persona, version, event, move):
        await self.table()
        self.kept = move(self.kept)
        self.events.append((persona, version, event))
        return self.kept


@pytest.fixture
def publish(tmp_path):
    """Publish a version and return the store."""
    store = AdapterStore([tmp_path / "adapters"])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "adapter_model.safetensors").write_bytes(b"weights")

    def one(version, persona="haneul"):
        fields = dict.fromkeys(
            ["base_model", "base_revision", "tokenizer_revision", "dataset", "dataset_hash", "code_revision"], "x"
        )
        manifest = AdapterManifest(
            persona=persona,
            version=version,
            seed=0,
            arguments={},
            metrics={},
            files={},
            created_at=f"2026-01-0{version[-1]}",
            **fields,
        )
        store.publish(tmp_path / "run", manifest)
        return store

    return one


async def test_the_first_published_version_answers_and_later_ones_wait(publish):
    store, registry = publish("v1"), FakeRegistry()
    rollouts = Rollouts(registry, store, refresh_s=0.01)
    await rollouts.start()
    assert rollouts.adapter_for("haneul", "fan").adapter_id == "haneul/v1"
    publish("v2")
    async with asyncio.timeout(2):
        while len(rollouts.table.versions("haneul")) < 2:
            await asyncio.sleep(0.01)
    assert rollouts.adapter_for("haneul", "fan").version == "v1"
    await rollouts.promote("haneul", "v2")
    assert rollouts.adapter_for("haneul", "fan").version == "v2"
    await rollouts.rollback("haneul")
    assert rollouts.adapter_for("haneul", "fan").version == "v1"
    await rollouts.stop()


async def test_a_change_elsewhere_is_noticed(publish):
    store, registry = publish("v1"), FakeRegistry()
    publish("v2")
    here, there = Rollouts(registry, store, 0.01), Rollouts(registry, store, 60)
    await here.start()
    await there.start()
    await there.promote("haneul", "v1" if there.adapter_for("haneul", "f").version == "v2" else "v2")
    async with asyncio.timeout(2):
        while here.adapter_for("haneul", "f") != there.adapter_for("haneul", "f"):
            await asyncio.sleep(0.01)
    await here.stop()
    await there.stop()


async def test_with_postgres_down_the_newest_published_answers(publish):
    store, registry = publish("v1"), FakeRegistry()
    publish("v2")
    registry.down = True
    rollouts = Rollouts(registry, store, 0.01)
    await rollouts.start()
    assert rollouts.adapter_for("haneul", "fan").version == "v2"
    assert rollouts.adapter_for("kelron", "fan") is None
    registry.down = False
    async with asyncio.timeout(2):
        while not registry.events:
            await asyncio.sleep(0.01)
    await rollouts.stop()
