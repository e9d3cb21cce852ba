"""What stands in a character's folder: ``seeds.jsonl`` and ``facts.yaml``."""

from __future__ import annotations

from collections.abc import Sequence

from core.contracts import USER_MACRO
from data_pipelines.grammar.facts import load_facts
from data_pipelines.rows import READS_CONTEXT, Row, Turn, kind_of
from data_pipelines.sources.base import Collected, Line, hashes, json_lines, row_at, spoken_messages
from personas.context_labels import labels_for, render_sections
from personas.loader import Persona


def seeds(persona: Persona, licence: str) -> Collected:
    """Hand-written conversations. Those that need retrieved facts show them, as serving would."""
    path = persona.folder / "seeds.jsonl"
    if not path.is_file():
        return Collected("seeds", licence, [], note=f"{persona.id} has no seeds.jsonl")
    rows = [_seed(persona, line) for line in json_lines(path)]
    return Collected("seeds", licence, rows, hashes(path))


def _seed(persona: Persona, line: Line) -> Row:
    category = str(line.values.get("category") or "everyday")
    context = [str(fact) for fact in line.values.get("context") or ()]
    turns = spoken_messages(line.values, line.place)
    tags = tuple(map(str, line.values.get("style_tags") or ()))
    return row_at(
        line.place,
        character_id=persona.id,
        dataset_source="seeds",
        kind=kind_of(category),
        category=category,
        messages=_with_context(turns, context, persona.card.language) if context else turns,
        style_tags=(*tags, READS_CONTEXT) if context else tags,
    )


def _with_context(turns: tuple[Turn, ...], facts: Sequence[str], language: str) -> tuple[Turn, ...]:
    """The facts as a system message right before the fan's last words: where serving puts them."""
    memories = [fact for fact in facts if USER_MACRO in fact]
    knowledge = [fact for fact in facts if USER_MACRO not in fact]
    text = render_sections(labels_for(language), (), memories, knowledge)
    last = max((place for place, turn in enumerate(turns) if turn.role == "user"), default=0)
    return (*turns[:last], Turn(role="system", content=text), *turns[last:])


def facts(persona: Persona, licence: str) -> Collected:
    """Each way to ask with each way to say: questions about the character's world."""
    path = persona.folder / "facts.yaml"
    if not path.is_file():
        return Collected("facts", licence, [], note=f"{persona.id} has no facts.yaml")
    rows = [
        row_at(
            f"{path}: {entry.fact}",
            character_id=persona.id,
            dataset_source="facts",
            kind="worldview",
            category=entry.doc,
            messages=({"role": "user", "content": ask}, {"role": "assistant", "content": say}),
        )
        for entry in load_facts(path)
        for ask in entry.ask
        for say in entry.say
    ]
    return Collected("facts", licence, rows, hashes(path))
