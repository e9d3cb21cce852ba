"""The HTTP layer over fakes: what its tests share."""

import json
from types import SimpleNamespace

import httpx
import pytest

from adapters.rollout import RolloutTable
from apps.chat.args import GatewayArgs
from apps.chat.http_app import create_http_app
from apps.chat.rate_limit import NoLimit
from apps.chat.services import GatewayServices
from core.contracts import utc_now
from memory.documents_store import StoredDocument


class FakeKeys:
    def __init__(self):
        self.keys = {"am-chat": frozenset({"chat"}), "am-admin": frozenset({"chat", "admin"})}

    async def verify(self, key):
        return self.keys.get(key)

    async def create(self, label, scopes):
        self.keys["am-new"] = frozenset(scopes)
        return "am-new"

    async def list(self):
        return []

    async def revoke(self, key_id):
        return False


class FakeUploads:
    def __init__(self):
        self.documents = {}

    async def add(self, persona, filename, content, category):
        document = StoredDocument(f"d{len(self.documents)}", persona, filename, category, "0", 1, utc_now())
        self.documents[document.document_id] = document
        return document

    async def list(self, persona):
        return [d for d in self.documents.values() if persona in (None, d.persona)]

    async def delete(self, document_id):
        return self.documents.pop(document_id, None) is not None


class NeverAllowed:
    async def allow(self, caller):
        return False


class FakeRollouts:
    def __init__(self):
        self.table = RolloutTable().add("haneul", "v1").promote("haneul", "v1").add("haneul", "v2")

    async def promote(self, persona, version):
        self.table = self.table.promote(persona, version)
        return self.table

    async def canary(self, persona, version, share):
        self.table = self.table.canary(persona, version, share)
        return self.table

    async def rollback(self, persona):
        self.table = self.table.rollback(persona)
        return self.table


@pytest.fixture
def site(stage):
    """The stage with an HTTP client in front; ``configure`` changes what the gateway is given."""
    site = SimpleNamespace(stage=stage, components=dict.fromkeys(["postgres", "redis", "qdrant", "generator"], "ok"))

    async def health():
        return site.components

    async def erase_fan(fan_id):
        await stage.long_term.delete_fan(fan_id)
        return fan_id == "fan-1"

    def client(rate_limit=None, **args):
        services = GatewayServices(
            args=GatewayArgs(max_message_chars=200, **args),
            library=stage.library,
            sessions=stage.sessions,
            turns=stage.turns(),
            check_input=stage.check_input,
            long_term=stage.long_term,
            erase_fan=erase_fan,
            delete_memory=stage.long_term.delete_memory,
            uploads=FakeUploads(),
            keys=FakeKeys(),
            rollouts=FakeRollouts(),
            rate_limit=rate_limit or NoLimit(),
            health=health,
        )
        transport = httpx.ASGITransport(create_http_app(services), raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://test")

    site.client = client
    return site


def events(text):
    parsed = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        data = fields["data"]
        parsed.append((fields.get("event"), data if data == "[DONE]" else json.loads(data)))
    return parsed


async def open_session(client, **fields):
    body = {"persona": "haneul", "fan_id": "fan-1", "profile": {"name": "서윤"}} | fields
    answer = await client.post("/session", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()
