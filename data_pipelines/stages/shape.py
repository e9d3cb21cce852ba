"""A conversation must be one: sides that take turns, beginning with the fan and ending with the character."""

from __future__ import annotations

from data_pipelines.config import FilterConfig
from data_pipelines.rows import READS_CONTEXT, Row
from data_pipelines.stages.base import Outcome, RowStage


def shape(config: FilterConfig) -> RowStage:
    """Drops what is empty, out of turn, too short or too long."""

    def stage(row: Row) -> Outcome:
        spoken = [turn for turn in row.messages if turn.role != "system"]
        expected = ["user", "assistant"] * (len(spoken) // 2)
        if not spoken or [turn.role for turn in spoken] != expected or row.messages[-1].role != "assistant":
            return Outcome.drop("out of turn")
        if row.messages[0].role == "system" and row.messages[0].content != _context_before_first(row):
            return Outcome.drop("carries a system prompt")
        if any(not turn.content.strip() for turn in row.messages):
            return Outcome.drop("empty message")
        if any(len(reply.strip()) < config.min_reply_chars for reply in row.texts("assistant")):
            return Outcome.drop("reply too short")
        if len(spoken) > config.max_turns:
            return Outcome.drop("too many turns")
        if any(len(turn.content) > config.max_chars for turn in spoken):
            return Outcome.drop("message too long")
        return Outcome.keep(row)

    return stage


def _context_before_first(row: Row) -> str | None:
    """A leading system message is context only in rows that are marked so."""
    return row.messages[0].content if READS_CONTEXT in row.style_tags else None
