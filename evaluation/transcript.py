"""A conversation written down: what was said, and what the rules say to each reply."""

from __future__ import annotations

import asyncio
from pathlib import Path

from core.errors import ConfigurationError, Unavailable
from evaluation.characters import load_character
from evaluation.items import PersonaItem
from evaluation.knowledge import cards_dir
from evaluation.replies import Played
from evaluation.runner import play_one
from evaluation.scores import Scorer
from evaluation.suite import SuiteConfig, make_scorer, open_target
from personas.loader import PersonaLibrary


def read_turns(path: Path) -> tuple[str, ...]:
    """The fan's lines, one per line of the file; blank ones and those that begin with ``#`` are left out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read ({error})") from error
    turns = tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
    if not turns:
        raise ConfigurationError(f"{path}: holds no line")
    return turns


def transcript_text(played: Played, scorer: Scorer, who: str) -> str:
    """The conversation as Markdown."""
    card = scorer.character.card
    lines = [f"# {card.display_name}: a conversation of {len(played.flat)} turns", "", who, ""]
    if played.error:
        lines += [f"It broke off: {played.error}", ""]
    asked = [line for session in played.asked for line in session]
    for position, reply in enumerate(played.flat):
        lines += [
            f"{position + 1}. **{played.fan_name}:** {asked[position]}  ",
            f"   **{card.display_name}:** {reply.text}",
        ]
        if remarks := _remarks(played, position, scorer):
            lines += ["", f"   *{'; '.join(remarks)}*"]
        lines.append("")
    return "\n".join(lines)


def _remarks(played: Played, position: int, scorer: Scorer) -> list[str]:
    reply = played.flat[position]
    remarks = [f"blocked as {reply.category}"] if reply.blocked else []
    remarks += [f"without {missing}" for missing in reply.degraded]
    remarks += [f"source: {source.title}" for source in reply.sources]
    findings = scorer.reply_rules(played.flat, position)
    return remarks + [f"{name}: {finding.note}" for name, finding in findings.items() if finding.ok is False]


def converse(config: SuiteConfig, turns: Path) -> str:
    """Have the conversation of a file of lines, and write it down."""
    return asyncio.run(_converse(config, read_turns(turns)))


async def _converse(config: SuiteConfig, turns: tuple[str, ...]) -> str:
    character = load_character(config.character, PersonaLibrary(cards_dir()))
    item = PersonaItem(id="transcript", kind="normal", category="transcript", turns=turns)
    async with open_target(config, character) as target:
        played = await play_one(item, character.fan_name(0), target)
    if played.error and not played.flat:
        raise Unavailable(played.error)
    adapters = dict.fromkeys(reply.adapter or "no adapter" for reply in played.flat)
    who = f"Arm {config.arm} at {config.endpoint}, answered by {', '.join(adapters)}."
    return transcript_text(played, make_scorer(character), who)
