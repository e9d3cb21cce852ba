"""Asking a language model: an OpenAI-compatible endpoint, or a stand-in that needs none.

The endpoint is asked through the ``openai`` client, request by request: it tells a refused key from a busy server,
waits as long as the server asks, and every reply can be kept the moment it comes. ``ray.data.llm``'s HTTP
processor hands a block back only as a whole and takes any answer that is JSON, an error's too, for a reply.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from core.errors import ConfigurationError, Unavailable
from data_pipelines.config import GeneratedSource
from data_pipelines.rows import canonical_json


class LlmRequest(BaseModel):
    """What is sent; the same request always has the same key."""

    model_config = ConfigDict(frozen=True)

    endpoint: str
    model: str
    system: str
    prompt: str
    max_tokens: int
    temperature: float
    number: int
    """Tells requests apart that say the same."""

    @property
    def key(self) -> str:
        return hashlib.sha256(canonical_json(self.model_dump()).encode()).hexdigest()


class LlmClient(Protocol):
    def complete(self, request: LlmRequest) -> str:
        """The reply's text."""
        ...


class OfflineModel:
    """Says the examples of its prompt again: for trying the pipeline out without an endpoint."""

    def complete(self, request: LlmRequest) -> str:
        start = request.prompt.index("[")
        return request.prompt[start : request.prompt.rindex("]") + 1]


class EndpointModel:
    """An OpenAI-compatible endpoint, asked at a limited rate and again after failures."""

    def __init__(self, config: GeneratedSource) -> None:
        from openai import OpenAI

        key = os.environ.get(config.api_key_env)
        if not key:
            raise ConfigurationError(f"generated: set {config.api_key_env} to the key of {config.base_url}")
        self._client = OpenAI(
            base_url=config.base_url, api_key=key, max_retries=config.max_retries, timeout=config.timeout_s
        )
        self._pace = Pace(config.queries_per_second)

    def complete(self, request: LlmRequest) -> str:
        from openai import APIConnectionError, APIStatusError

        self._pace.wait()
        try:
            reply = self._client.chat.completions.create(
                model=request.model,
                messages=[
                    {"role": "system", "content": request.system},
                    {"role": "user", "content": request.prompt},
                ],
                max_tokens=request.max_tokens,
                temperature=request.temperature,
            )
        except APIStatusError as error:
            if error.status_code in (400, 401, 403, 404):
                raise ConfigurationError(f"{request.endpoint}: {error.status_code}: {error.message}") from error
            raise Unavailable(
                f"{request.endpoint}: {error.status_code} after all retries: {error.message}"
            ) from error
        except APIConnectionError as error:
            raise Unavailable(f"{request.endpoint}: cannot be reached ({error})") from error
        return (reply.choices[0].message.content or "") if reply.choices else ""


class Pace:
    """Lets callers through at most ``per_second`` times a second."""

    def __init__(self, per_second: float) -> None:
        self._gap = 1 / per_second
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        with self._lock:
            now = time.monotonic()
            self._next = max(self._next, now) + self._gap
            delay = self._next - self._gap - now
        time.sleep(max(0.0, delay))


class ReplyCache:
    """Replies on disk by the request's key: what was paid for once is never asked for again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, request: LlmRequest) -> str | None:
        path = self._path(request)
        try:
            return str(json.loads(path.read_text(encoding="utf-8"))["reply"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError):
            path.unlink(missing_ok=True)  # cut off while it was written: ask again
            return None

    def put(self, request: LlmRequest, reply: str) -> None:
        path = self._path(request)
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        content = {"request": request.model_dump(), "reply": reply}
        staging.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        staging.rename(path)

    def _path(self, request: LlmRequest) -> Path:
        return self._folder / request.key[:2] / f"{request.key}.json"


def ask_all(
    client: LlmClient, cache: ReplyCache, requests: Sequence[LlmRequest], concurrency: int
) -> Iterator[tuple[LlmRequest, str]]:
    """Each request with its reply, in the order of the requests. Stops at the first failure; a later call goes on."""
    replies = {request.key: reply for request in requests if (reply := cache.get(request)) is not None}
    missing = [request for request in requests if request.key not in replies]
    with ThreadPoolExecutor(max_workers=concurrency) as pool:
        waiting = {pool.submit(client.complete, request): request for request in missing}
        try:
            for done in as_completed(waiting):
                request = waiting[done]
                replies[request.key] = done.result()
                cache.put(request, replies[request.key])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    yield from ((request, replies[request.key]) for request in requests)
