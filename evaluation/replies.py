"""What came back from whoever was asked."""

from __future__ import annotations

from evaluation.items import Strict


class SourceRef(Strict):
    """A passage that the reply's prompt held, as the platform names it."""

    id: str
    title: str
    category: str


class Reply(Strict):
    text: str
    blocked: bool = False
    """The platform put the character's alternative answer in place."""

    category: str | None = None
    degraded: tuple[str, ...] = ()
    sources: tuple[SourceRef, ...] = ()
    adapter: str | None = None
    total_ms: float
    """As the client waited."""

    ttft_ms: float | None = None
    """As the server measured it."""


class Played(Strict):
    """One item after it was played."""

    item_id: str
    fan_name: str
    asked: tuple[tuple[str, ...], ...]
    """The fan's lines by session, as they were sent."""

    replies: tuple[tuple[Reply, ...], ...] = ()
    error: str | None = None
    """Why it could not be played to its end; then it has no score."""

    notes: tuple[str, ...] = ()

    @property
    def flat(self) -> list[Reply]:
        """All replies, in order."""
        return [reply for session in self.replies for reply in session]
