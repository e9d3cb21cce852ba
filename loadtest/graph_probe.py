"""Is the graph up, and who answers there? Asked before anything is started or measured."""

from __future__ import annotations

from typing import Any

import httpx

from core.errors import SetupError
from loadtest.metrics import FrozenModel


class GraphInfo(FrozenModel):
    """What the graph says about itself."""

    url: str
    persona: str
    adapter: str | None
    """``<persona>/<version>`` that answers, or nothing for the base model."""

    components: dict[str, str]
    """From ``/health``."""

    @property
    def degraded(self) -> tuple[str, ...]:
        return tuple(name for name, state in self.components.items() if state != "ok")


def probe_graph(url: str, persona: str, timeout_s: float) -> GraphInfo:
    """Ask for health and for one short reply.

    Raises:
        SetupError: It is not up, cannot serve, or does not know the persona.
    """
    with httpx.Client(base_url=url, trust_env=False, timeout=timeout_s) as http:
        try:
            health = http.get("/health")
            reply = http.post("/v1/chat/completions", json=_hello(persona)) if health.is_success else health
        except httpx.HTTPError as error:
            raise SetupError(
                f"the graph is not up at {url} ({type(error).__name__}): start it with `artistmind up`"
            ) from error
    if not reply.is_success:
        raise SetupError(f"the graph at {url} cannot serve '{persona}': {_words(reply)}")
    adapter = _json(reply).get("artistmind", {}).get("adapter")
    return GraphInfo(url=url, persona=persona, adapter=adapter, components=_json(health).get("components", {}))


def _hello(persona: str) -> dict[str, Any]:
    return {"model": persona, "messages": [{"role": "user", "content": "안녕"}], "max_tokens": 8}


def _json(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _words(response: httpx.Response) -> str:
    body = _json(response)
    message = body.get("error", {}).get("message") or body.get("components") or response.text[:200]
    return f"HTTP {response.status_code}: {message}"
