"""The fan's own data: profile and memories, to see, change and erase."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Response

from apps.chat.auth import Services, requires
from apps.chat.schemas import ProfileBody, profile_json
from apps.chat.services import GatewayServices
from core.contracts import USER_MACRO
from core.errors import NotFound
from personas.macros import fill

router = APIRouter(prefix="/profile", dependencies=[Depends(requires("chat"))])
FanId = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$")]


@router.get("/{fan_id}")
async def get_profile(fan_id: FanId, services: Services) -> dict[str, Any]:
    profile = await services.long_term.get_profile(fan_id)
    if profile is None:
        raise NotFound(f"unknown fan '{fan_id}'", "fan_id")
    return profile_json(profile)


@router.put("/{fan_id}")
async def put_profile(fan_id: FanId, body: ProfileBody, services: Services) -> dict[str, Any]:
    profile = body.as_profile(fan_id)
    await services.long_term.put_profile(profile)
    return profile_json(profile)


@router.delete("/{fan_id}", status_code=204)
async def erase(fan_id: FanId, services: Services) -> Response:
    """Erase the fan everywhere: profile, sessions, messages, summaries, memories, vectors, windows."""
    if not await services.erase_fan(fan_id):
        raise NotFound(f"unknown fan '{fan_id}'", "fan_id")
    return Response(status_code=204)


@router.get("/{fan_id}/memories")
async def memories(fan_id: FanId, services: Services) -> dict[str, Any]:
    found = await services.long_term.memories(fan_id)
    profile = await services.long_term.get_profile(fan_id)
    name = profile.name if profile else None
    return {
        "memories": [
            {
                "id": memory.memory_id,
                "persona": memory.persona,
                "text": fill(memory.text, name or _alias(services, memory.persona)),
                "session_id": memory.session_id,
                "created_at": memory.created_at.isoformat(),
            }
            for memory in found
        ]
    }


def _alias(services: GatewayServices, persona: str) -> str:
    """What this character calls a fan whose name is not known; a character that is gone leaves the macro."""
    try:
        return services.library.get(persona).card.fan_alias
    except NotFound:
        return USER_MACRO


@router.delete("/{fan_id}/memories/{memory_id}", status_code=204)
async def delete_memory(fan_id: FanId, memory_id: str, services: Services) -> Response:
    if not await services.delete_memory(fan_id, memory_id):
        raise NotFound(f"fan '{fan_id}' has no memory '{memory_id}'", "memory_id")
    return Response(status_code=204)
