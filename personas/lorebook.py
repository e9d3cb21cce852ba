"""A character's lorebook: pieces of world knowledge that enter the prompt when the talk turns to them.

Lorebooks come from strangers. So regular expressions run against a clock that all of them share, recursion ends
after a few rounds, and what is inserted never costs more than the book's budget.
"""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import regex
from pydantic import Field

from core.contracts import Message, Passage
from personas.base import CardModel, Extensions

MAX_ENTRIES = 2_000
MAX_TEXT_CHARS = 32_000

DEFAULT_SCAN_DEPTH = 8
DEFAULT_TOKEN_BUDGET = 256
MAX_ROUNDS = 3
"""Of recursive scanning, after the first."""

REGEX_BUDGET_S = 0.1
"""Of processor time, for all regular expressions of one scan together; those that come too late match nothing."""

MAX_PATTERN_CHARS = 500

_FLAGS = {"i": regex.IGNORECASE, "m": regex.MULTILINE, "s": regex.DOTALL, "u": 0, "g": 0}

TokenCount = Callable[[str], int]


class LoreEntry(CardModel):
    """One piece of lore and the words that call it up."""

    keys: tuple[str, ...] = ()
    """Words of which one must have been said."""

    content: str = Field(default="", max_length=MAX_TEXT_CHARS)
    """What enters the prompt; an entry without content never does."""

    enabled: bool = True
    """Switched off, an entry is kept but never used."""

    insertion_order: int | float = 0
    """Lower stands earlier in the prompt."""

    priority: int | float | None = None
    """When the budget is spent, the lowest is left out first; unset: ``insertion_order`` decides."""

    constant: bool | None = None
    """In every prompt, whatever was said, as far as the budget goes."""

    selective: bool | None = None
    """Requires one of ``secondary_keys`` beside one of ``keys``."""

    secondary_keys: tuple[str, ...] | None = None
    """Used when ``selective``; empty ones are as none."""

    case_sensitive: bool | None = None
    """Unset: capitals do not matter."""

    use_regex: bool | None = None
    """Keys are regular expressions, bare or as ``/pattern/flags``; one that cannot be read matches nothing."""

    name: str | None = None
    """For people; not used in prompts."""

    comment: str | None = None
    """For people; not used in prompts."""

    id: int | float | str | None = None
    """Of the program that wrote the entry; kept."""

    position: int | str | None = None
    """Where other programs would insert the entry; kept, and not used here: lore is part of the context."""

    extensions: Extensions = Field(default_factory=dict)
    """Data of other programs; kept."""


class Lorebook(CardModel):
    """All lore of one character."""

    name: str | None = None
    """For people; not used in prompts."""

    description: str | None = None
    """For people; not used in prompts."""

    scan_depth: int | float | None = Field(default=None, ge=0)
    """How many of the latest messages are looked at for keys; unset: 8."""

    token_budget: int | float | None = Field(default=None, ge=0)
    """What all active entries may cost together; unset: 256."""

    recursive_scanning: bool | None = None
    """Whether the content of an active entry may call up others, three times over at most."""

    entries: tuple[LoreEntry, ...] = Field(default=(), max_length=MAX_ENTRIES)
    """The pieces."""

    extensions: Extensions = Field(default_factory=dict)
    """Data of other programs; kept."""


def active_entries(book: Lorebook, messages: Sequence[Message], count_tokens: TokenCount) -> tuple[LoreEntry, ...]:
    """The entries that belong into the prompt now, in their order.

    Args:
        book: The character's lorebook.
        messages: The conversation so far, oldest first, with the message that is to be answered at its end.
        count_tokens: How the model counts.
    """
    depth = DEFAULT_SCAN_DEPTH if book.scan_depth is None else int(min(book.scan_depth, len(messages)))
    scan = _Scan(time.thread_time() + REGEX_BUDGET_S)
    said = "\n".join(message.content for message in messages[max(0, len(messages) - depth) :])
    able = [entry for entry in book.entries if entry.enabled and entry.content.strip()]
    called = scan.called(able, said)
    if book.recursive_scanning:
        called = _recursively(scan, able, called)
    return _affordable(called, book.token_budget, count_tokens)


def lore_passages(book: Lorebook | None, messages: Sequence[Message], count_tokens: TokenCount) -> list[Passage]:
    """Active lore as the prompt takes knowledge."""
    entries = active_entries(book, messages, count_tokens) if book else ()
    return [Passage(f"lore-{index}", e.content, e.name or "", "lore", 1.0) for index, e in enumerate(entries)]


def _recursively(scan: _Scan, able: Sequence[LoreEntry], called: list[LoreEntry]) -> list[LoreEntry]:
    """Let the content of what was called call up more, round by round."""
    found, latest = list(called), called
    for _ in range(MAX_ROUNDS):
        known = {id(entry) for entry in found}
        rest = [entry for entry in able if id(entry) not in known]
        latest = scan.called(rest, "\n".join(entry.content for entry in latest)) if latest else []
        found += latest
    return found


def _affordable(called: Iterable[LoreEntry], budget: float | None, count_tokens: TokenCount) -> tuple[LoreEntry, ...]:
    """What fits the budget: constant entries first, then by priority; returned in the order of insertion."""
    left = DEFAULT_TOKEN_BUDGET if budget is None else budget
    kept = []
    for entry in sorted(called, key=lambda entry: (not entry.constant, -_rank(entry))):
        cost = count_tokens(entry.content)
        if cost <= left:
            kept.append(entry)
            left -= cost
    return tuple(sorted(kept, key=lambda entry: entry.insertion_order))


def _rank(entry: LoreEntry) -> float:
    return entry.insertion_order if entry.priority is None else entry.priority


@dataclass(frozen=True, slots=True)
class _Scan:
    """One search for keys, with the thread's time at which regular expressions must be done."""

    deadline: float

    def called(self, entries: Iterable[LoreEntry], text: str) -> list[LoreEntry]:
        """Entries that are constant or whose keys stand in ``text``."""
        exact = unicodedata.normalize("NFC", text)
        folded = exact.casefold()
        return [entry for entry in entries if entry.constant or self._matches(entry, exact, folded)]

    def _matches(self, entry: LoreEntry, exact: str, folded: str) -> bool:
        if not self._any(entry.keys, entry, exact, folded):
            return False
        second = [key for key in entry.secondary_keys or () if key.strip()] if entry.selective else []
        return not second or self._any(second, entry, exact, folded)

    def _any(self, keys: Iterable[str], entry: LoreEntry, exact: str, folded: str) -> bool:
        given = [unicodedata.normalize("NFC", key).strip() for key in keys if key.strip()]
        if entry.use_regex:
            return any(self._found(key, bool(entry.case_sensitive), exact) for key in given)
        if entry.case_sensitive:
            return any(key in exact for key in given)
        return any(key.casefold() in folded for key in given)

    def _found(self, key: str, case_sensitive: bool, text: str) -> bool:
        left = self.deadline - time.thread_time()
        pattern = _compiled(key, case_sensitive) if left > 0 else None
        if pattern is None:
            return False
        try:
            return pattern.search(text, timeout=left) is not None
        except TimeoutError:
            return False


@lru_cache(maxsize=4096)
def _compiled(key: str, case_sensitive: bool) -> regex.Pattern[str] | None:
    """The expression of a key, bare or as ``/pattern/flags``; ``None`` when it cannot be read or is too long."""
    flags = 0 if case_sensitive else regex.IGNORECASE
    body, slash, named = key[1:].rpartition("/") if key.startswith("/") else (key, "", "")
    if slash and set(named) <= set(_FLAGS):
        flags = sum({_FLAGS[flag] for flag in named})
    else:
        body = key
    if len(body) > MAX_PATTERN_CHARS:
        return None
    try:
        return regex.compile(body, flags)
    except (regex.error, RecursionError, OverflowError, ValueError):
        return None
