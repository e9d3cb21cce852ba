"""Who may call: API keys by scope, and how often. With keys off (loopback only) everything is allowed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Header, Request

from apps.chat.services import GatewayServices, services_of
from core.errors import Forbidden, RateLimited, Unauthorized

Services = Annotated[GatewayServices, Depends(services_of)]


def requires(scope: str) -> Callable[..., Awaitable[None]]:
    """A dependency that lets callers with ``scope`` through, within their rate."""

    async def check(
        request: Request,
        services: Services,
        authorization: Annotated[str | None, Header()] = None,
    ) -> None:
        caller = request.client.host if request.client else "local"
        if services.args.require_keys:
            caller = await _verified(services, authorization, scope)
        if not await services.rate_limit.allow(caller):
            raise RateLimited("too many requests; slow down")

    return check


async def _verified(services: GatewayServices, authorization: str | None, scope: str) -> str:
    kind, _, key = (authorization or "").partition(" ")
    if kind.lower() != "bearer" or not key:
        raise Unauthorized("send 'Authorization: Bearer <key>'")
    scopes = await services.keys.verify(key.strip())
    if scopes is None:
        raise Unauthorized("this key is not known or was revoked")
    if scope not in scopes:
        raise Forbidden(f"this key has not the scope '{scope}'")
    return key
