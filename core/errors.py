"""Every error the platform raises on purpose.

    ArtistMindError
    ├── RequestError                    the caller's fault (4xx)
    │   ├── InvalidRequest              400   malformed, wrong type, out of range
    │   │   └── UnsupportedParameter    400   known to the protocol, not to us
    │   ├── Unauthorized                401
    │   ├── Forbidden                   403
    │   ├── NotFound                    404
    │   ├── Conflict                    409
    │   ├── TooLarge                    413
    │   ├── UnsupportedMedia            415
    │   ├── Unprocessable               422   well-formed, but cannot be worked with
    │   └── RateLimited                 429
    ├── Unavailable                     503   a component is down; try again later
    │   └── StoreUnavailable            503   a memory store is down (names which)
    ├── TrainingDiverged                a loss or gradient is no finite number: names the step and its conversations
    ├── ConfigurationError              wrong settings, card or manifest: names the file, field and remedy
    └── SetupError                      the machine is not ready: one line that says what to do

To add one: subclass, set ``code`` (snake_case, stable: clients match on it) and, below ``RequestError``,
``status``. It stands here so that HTTP is mapped once, by ``apps.chat.http_errors``. Errors cross process
boundaries in Ray, so every one of them survives pickling: keep state in ``args``.
"""

from __future__ import annotations


class ArtistMindError(Exception):
    """Base of all; ``message`` is written for the person who reads it."""

    code = "internal_error"
    status = 500

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message, param)
        self.message = message
        self.param = param

    def __str__(self) -> str:
        return self.message


class RequestError(ArtistMindError):
    code = "invalid_request"
    status = 400


class InvalidRequest(RequestError):
    pass


class UnsupportedParameter(InvalidRequest):
    code = "unsupported_parameter"


class Unauthorized(RequestError):
    code = "unauthorized"
    status = 401


class Forbidden(RequestError):
    code = "forbidden"
    status = 403


class NotFound(RequestError):
    code = "not_found"
    status = 404


class Conflict(RequestError):
    code = "conflict"
    status = 409


class TooLarge(RequestError):
    code = "too_large"
    status = 413


class UnsupportedMedia(RequestError):
    code = "unsupported_media_type"
    status = 415


class Unprocessable(RequestError):
    code = "unprocessable"
    status = 422


class RateLimited(RequestError):
    code = "rate_limited"
    status = 429


class Unavailable(ArtistMindError):
    """A part of the system cannot answer now."""

    code = "unavailable"
    status = 503
    retry_after_s = 5


class StoreUnavailable(Unavailable):
    """A memory store is down.

    ``param`` names it: ``postgres``, ``redis``, ``qdrant`` or ``embedder``.
    """

    code = "store_unavailable"


class TrainingDiverged(ArtistMindError):
    """The loss or the gradient is no finite number: other settings or other data are needed."""

    code = "training_diverged"


class ConfigurationError(ArtistMindError):
    code = "configuration_error"


class SetupError(ArtistMindError):
    code = "setup_error"
