"""Parts of a passage that fit a question: a small model reads a few sentences better than a page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from core.contracts import Passage
from memory.recall import recalled

_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])(?![」』）])|\n+")
_HEADING = re.compile(r"^#+\s*")


def sentences(text: str) -> list[str]:
    """The sentences of a text without their full stops; a heading or a row of a table is one, too."""
    found = (_HEADING.sub("", part).strip().strip("|-*.。 ").strip() for part in _END.split(text))
    return [part for part in found if len(part) > 1]


def best_sentences(question: str, passages: Sequence[Passage], most: int) -> list[Passage]:
    """The ``most`` sentences of all passages that share most with the question, best first, each as a passage."""
    held = {text: passage for passage in reversed(passages) for text in sentences(passage.text)}
    in_order = [text for passage in passages for text in sentences(passage.text)]
    return [replace(held[text], text=text) for text in picked(question, in_order, most)]


def picked(question: str, found: Sequence[str], most: int) -> list[str]:
    """The ``most`` of the sentences ``found`` that share most with the question; the first ones when none shares any.

    Neighbouring passages overlap: the rest of a sentence that stands whole in another one is left out.
    """
    every = list(dict.fromkeys(found))
    whole = [text for text in every if not any(text != other and text in other for other in every)]
    return recalled(question, whole, most) or whole[:most]


def best_window(passage: str, question: str, limit: int) -> str:
    """The neighbouring sentences of ``passage``, at most ``limit`` characters, that share most with the question."""
    if len(passage) <= limit:
        return passage
    parts = [part.strip() for part in re.findall(r"[^.!?。！？\n]+[.!?。！？]*", passage) if part.strip()]
    wanted = _bigrams(question)
    best, best_score = passage[:limit].rstrip(), -1
    for start in range(len(parts)):
        window = _grown(parts, start, limit)
        score = len(wanted & _bigrams(window))
        if score > best_score:
            best, best_score = window, score
    return best


def _grown(parts: Sequence[str], start: int, limit: int) -> str:
    window = parts[start][:limit].rstrip()
    for part in parts[start + 1 :]:
        if len(window) + 1 + len(part) > limit:
            break
        window = f"{window} {part}"
    return window


def _bigrams(text: str) -> set[str]:
    return {word[i : i + 2] for word in text.lower().split() for i in range(len(word) - 1)}
