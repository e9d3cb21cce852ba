"""Adapters, rollouts and API keys; scope ``admin``."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Response

from adapters.rollout import RolloutTable
from apps.chat.auth import Services, requires
from apps.chat.schemas import CanaryBody, KeyBody
from core.errors import NotFound
from memory.api_keys import ApiKey

router = APIRouter(prefix="/admin", dependencies=[Depends(requires("admin"))])


@router.get("/adapters")
async def adapters(services: Services, persona: str | None = None) -> dict[str, Any]:
    return _table_json(services.rollouts.table, persona)


@router.post("/adapters/{persona}/{version}/canary")
async def canary(persona: str, version: str, body: CanaryBody, services: Services) -> dict[str, Any]:
    return _table_json(await services.rollouts.canary(persona, version, body.share), persona)


@router.post("/adapters/{persona}/{version}/promote")
async def promote(persona: str, version: str, services: Services) -> dict[str, Any]:
    return _table_json(await services.rollouts.promote(persona, version), persona)


@router.post("/adapters/{persona}/{version}/retire")
async def retire(persona: str, version: str, services: Services) -> dict[str, Any]:
    return _table_json(await services.rollouts.retire(persona, version), persona)


@router.post("/adapters/{persona}/rollback")
async def rollback(persona: str, services: Services) -> dict[str, Any]:
    return _table_json(await services.rollouts.rollback(persona), persona)


@router.post("/keys", status_code=201)
async def create_key(body: KeyBody, services: Services) -> dict[str, Any]:
    """Make a key; this answer is the only place where it is ever shown."""
    return {
        "label": body.label,
        "scopes": list(body.scopes),
        "key": await services.keys.create(body.label, body.scopes),
    }


@router.get("/keys")
async def list_keys(services: Services) -> dict[str, Any]:
    return {"keys": [_key_json(info) for info in await services.keys.list()]}


@router.delete("/keys/{key_id}", status_code=204)
async def revoke_key(key_id: str, services: Services) -> Response:
    if not await services.keys.revoke(key_id):
        raise NotFound(f"unknown key '{key_id}'", "key_id")
    return Response(status_code=204)


def _table_json(table: RolloutTable, persona: str | None) -> dict[str, Any]:
    return {
        "adapters": [
            {
                "persona": v.persona,
                "version": v.version,
                "state": v.state.value,
                "share": v.share,
                "previous_live": v.previous_live,
            }
            for v in table.versions(persona)
        ]
    }


def _key_json(info: ApiKey) -> dict[str, Any]:
    return {
        "id": info.key_id,
        "label": info.label,
        "scopes": list(info.scopes),
        "created_at": info.created_at.isoformat(),
        "revoked_at": info.revoked_at.isoformat() if info.revoked_at else None,
    }
