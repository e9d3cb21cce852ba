"""Plays the items of a set, some at a time, and writes each down as it ends, so that a run can be resumed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import ValidationError

from core.errors import ArtistMindError
from evaluation.characters import Character
from evaluation.client import Conversation, Target
from evaluation.items import Item
from evaluation.replies import Played
from personas.macros import fill

Progress = Callable[[Played], None]


class Journal:
    """What was played, one JSON object per line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def read(self) -> dict[str, Played]:
        """Items that were played to their end; a line that was cut off counts as not played."""
        if not self._path.is_file():
            return {}
        done: dict[str, Played] = {}
        for line in self._path.read_text(encoding="utf-8").split("\n"):
            try:
                played = Played.model_validate_json(line)
            except ValidationError:
                continue
            if played.error is None:
                done[played.item_id] = played
        return done

    def start_over(self) -> None:
        self._path.unlink(missing_ok=True)

    def add(self, played: Played) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(played.model_dump_json() + "\n")


async def play_all(
    items: Sequence[Item],
    target: Target,
    character: Character,
    concurrency: int,
    journal: Journal | None = None,
    progress: Progress | None = None,
) -> list[Played]:
    """Play every item and give what came back, in the order of the items; a failure is an item with ``error``."""
    done = journal.read() if journal else {}
    places = asyncio.Semaphore(concurrency)

    async def one(position: int, item: Item) -> Played:
        name = character.fan_name(position)
        if (known := done.get(item.id)) and known.asked == _filled(item, name):
            return known
        async with places:
            played = await play_one(item, name, target)
        if journal:
            journal.add(played)
        if progress:
            progress(played)
        return played

    return list(await asyncio.gather(*(one(position, item) for position, item in enumerate(items))))


async def play_one(item: Item, fan_name: str, target: Target) -> Played:
    """Play one item; what the other side says against it becomes the item's error."""
    conversation, error = Conversation(), None
    try:
        await target.play(item.script(), fan_name, conversation)
    except ArtistMindError as refusal:
        error = refusal.message
    return Played(
        item_id=item.id,
        fan_name=fan_name,
        asked=_filled(item, fan_name),
        replies=tuple(tuple(session) for session in conversation.replies),
        error=error,
        notes=tuple(conversation.notes),
    )


def _filled(item: Item, fan_name: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(fill(line, fan_name) for line in session) for session in item.script().sessions)
