"""HTTP with patience: what is busy is asked again, what is wrong is said in the server's words."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import httpx

from core.errors import ArtistMindError, Unavailable


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long a busy server is asked again."""

    attempts: int = 6
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    retried: frozenset[int] = frozenset({429, 503})
    repeat_timeouts: bool = False
    """Only for calls that change nothing when they are made twice."""


class PatientHttp:
    """An HTTP client of one server. Proxies and redirects are not followed."""

    def __init__(
        self,
        base_url: str,
        timeout_s: float,
        key: str | None = None,
        patience: Patience | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._patience = patience or Patience()
        self._base_url = base_url
        self._http = httpx.AsyncClient(
            base_url=base_url,
            timeout=timeout_s,
            trust_env=False,
            transport=transport,
            headers={"Authorization": f"Bearer {key}"} if key else {},
        )

    async def __aenter__(self) -> PatientHttp:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON answer of a call (``None`` for an empty one).

        Raises:
            Unavailable: Nothing answers, or it was busy to the last attempt.
            ArtistMindError: The server refused.
        """
        for attempt in range(1, self._patience.attempts + 1):
            last = attempt == self._patience.attempts
            try:
                response = await self._http.request(method, path, json=body)
            except httpx.HTTPError as error:
                if last or not self._worth_another(error):
                    raise Unavailable(f"{self._base_url}: {type(error).__name__} {error}".rstrip()) from error
                await asyncio.sleep(self._wait_s(attempt, None))
                continue
            if response.is_success:
                return _json(response)
            if last or response.status_code not in self._patience.retried:
                raise _refusal(response)
            await asyncio.sleep(self._wait_s(attempt, response.headers.get("Retry-After")))
        raise AssertionError("the last attempt returns or raises")

    def _worth_another(self, error: httpx.HTTPError) -> bool:
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return True
        return self._patience.repeat_timeouts and isinstance(error, httpx.TransportError)

    def _wait_s(self, attempt: int, retry_after: str | None) -> float:
        if retry_after and retry_after.isdigit():
            return min(float(retry_after), self._patience.longest_wait_s)
        wait = min(self._patience.first_wait_s * 2 ** (attempt - 1), self._patience.longest_wait_s)
        return wait * random.uniform(0.5, 1.0)  # those who were turned away together do not come back together


def _json(response: httpx.Response) -> Any:
    if not response.content:
        return None
    try:
        return response.json()
    except ValueError as error:
        raise ArtistMindError(f"{response.request.url} answered something that is no JSON") from error


def _refusal(response: httpx.Response) -> ArtistMindError:
    try:
        said = response.json()["error"]
        message = said["message"] if isinstance(said, dict) else str(said)
    except (ValueError, KeyError, TypeError):
        message = response.text[:200]
    kind = Unavailable if response.status_code in (429, 502, 503, 504) else ArtistMindError
    return kind(f"HTTP {response.status_code}: {message}")
