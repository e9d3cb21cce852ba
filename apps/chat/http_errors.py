"""Errors to HTTP, once: OpenAI's shape, the status of the error's class, and never a stack trace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from core.errors import ArtistMindError, InvalidRequest, NotFound, RequestError, Unavailable, Unprocessable
from core.logs import get_logger

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def error_body(error: ArtistMindError) -> dict[str, Any]:
    """``{"error": {message, type, code, param}}``."""
    kind = _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    # What is not ours to blame on the caller may name internals: those stay in the log.
    shown = error.message if isinstance(error, RequestError | Unavailable) else "internal error"
    param = error.param if isinstance(error, RequestError) else None
    return {"error": {"message": shown, "type": kind, "code": error.code, "param": param}}


def error_response(error: ArtistMindError) -> JSONResponse:
    headers: Mapping[str, str] = {}
    if error.status in (429, 503):
        headers = {"Retry-After": str(getattr(error, "retry_after_s", 5))}
    elif error.status == 401:
        headers = {"WWW-Authenticate": "Bearer"}
    return JSONResponse(error_body(error), error.status, headers=dict(headers))


def as_platform_error(error: Exception) -> ArtistMindError:
    """Any exception that reached the edge; what is not ours becomes a plain 500 and a log line."""
    if isinstance(error, ArtistMindError):
        return error
    get_logger("http").error("unexpected error", exc_info=error)
    return ArtistMindError("internal error")


def validation_error(error: RequestValidationError, openai: bool) -> ArtistMindError:
    """JSON that does not parse is 400; wrong content is 422, or OpenAI's 400 under ``/v1``."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return InvalidRequest("the body is not valid JSON")
    where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path", "header"))
    message = f"{where or 'body'}: {first['msg'].removeprefix('Value error, ')}"
    return (InvalidRequest if openai else Unprocessable)(message, where or None)


def install(app: FastAPI) -> None:
    """Register the handlers."""

    @app.exception_handler(ArtistMindError)
    async def _ours(_: Request, error: ArtistMindError) -> JSONResponse:
        if error.status >= 500 and not isinstance(error, Unavailable):
            get_logger("http").error("internal error", exc_info=error)
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def _validation(request: Request, error: RequestValidationError) -> JSONResponse:
        return error_response(validation_error(error, request.url.path.startswith("/v1/")))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 404:
            return error_response(NotFound(f"no such path: {request.url.path}"))
        body = {
            "message": str(error.detail),
            "type": "invalid_request_error",
            "code": "http_error",
            "param": None,
        }
        return JSONResponse({"error": body}, error.status_code, headers=error.headers)

    @app.exception_handler(Exception)
    async def _other(_: Request, error: Exception) -> JSONResponse:
        return error_response(as_platform_error(error))
