"""The HTTP application: routers over one replica's services. Knows FastAPI, not Ray."""

from __future__ import annotations

from fastapi import FastAPI

from apps.chat import (
    admin_routes,
    chat_routes,
    document_routes,
    http_errors,
    openai_routes,
    profile_routes,
)
from apps.chat.services import GatewayServices


def create_http_app(services: GatewayServices) -> FastAPI:
    """A FastAPI application that answers from ``services``."""
    app = FastAPI(title="ArtistMind", docs_url="/docs", redoc_url=None)
    app.state.services = services
    http_errors.install(app)
    for module in (chat_routes, profile_routes, document_routes, openai_routes, admin_routes):
        app.include_router(module.router)
    return app
