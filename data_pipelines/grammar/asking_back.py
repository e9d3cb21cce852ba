"""Conversations in which the fan asks for something they told, with the lines that serving would recall."""

from __future__ import annotations

import random
from dataclasses import dataclass

from core.language import line_language
from data_pipelines.grammar.composer import Composer, copied_slots
from data_pipelines.grammar.dialogue import ContextLines, Dialogue
from data_pipelines.grammar.intents import Exchange, fill, training_lines
from data_pipelines.grammar.quoting import question_for, quotable, quote
from memory.recall import is_statement, said_line

PLAIN = 0.3
"""Share in which a fact of the profile or the memory is recalled, which the reply puts into its own words."""

ANY_LINE = 0.55
"""Share of quoted lines that may be about anything; the others have hand-written ways to ask for them."""

SECOND_LINE = 0.5
"""Share with a second line, as serving shows two; both are quoted."""

SAME_SESSION = 0.6
"""Share in which the conversation still shows how it was told."""


@dataclass(frozen=True, slots=True)
class _Told:
    line: str
    question: str
    exchange: tuple[str, str] | None = None
    """How it was told, if there is a reply that fits."""


def asked_back(composer: Composer, rng: random.Random) -> Dialogue:
    """One conversation that ends with the question and its answer."""
    if rng.random() < PLAIN and composer.tellable:
        return _from_facts(composer, rng)
    templates = composer.voice.quoting.asked_back
    assert templates is not None, "the voice has ways to quote"
    told = _any_line(composer, templates, rng) if rng.random() < ANY_LINE else _told(composer, rng)
    told = told or _any_line(composer, templates, rng)
    lines = [said_line(told.line)]
    if rng.random() < SECOND_LINE and (other := _any_line(composer, templates, rng)).line != told.line:
        lines.append(said_line(other.line))
    reply = quote(rng.choice(templates.reply), lines, composer.voice.language)
    turns = [*_before(composer, told, rng), composer.typed(told.question, "memory", rng), reply]
    context = ContextLines(composer.fan_lines(rng), recalled=tuple(lines))
    return composer.assemble(tuple(turns), "memory", rng, context, answer_slots=tuple(lines), copied=lines)


def _from_facts(composer: Composer, rng: random.Random) -> Dialogue:
    """The recalled line is a sentence of the memory or a line of the profile: the reply is the intent's own."""
    item, *others = composer.distinct(composer.tellable, 2, rng)
    line = composer.profile_line(item)
    lines = [line] if line and rng.random() < 0.7 else composer.facts_of(item)
    if others and rng.random() < SECOND_LINE:
        lines = [*lines, *composer.facts_of(others[0])][:2]
    question = composer.typed(fill(rng.choice(training_lines(item.intent.user)), item.values), "memory", rng)
    reply = fill(rng.choice(item.intent.reply), item.values)
    values = [value for value in item.values.values() if value in reply]
    slots = tuple(value for name in copied_slots(item.intent) if (value := item.values[name]) in reply)
    turns = (*composer.history({item.intent.id}, rng), question, reply)
    label = (line or "").partition(":")[0]
    fan = tuple(other for other in composer.fan_lines(rng) if other.partition(":")[0] != label)
    context = ContextLines((*fan, line) if line else fan, recalled=tuple(lines))
    return composer.assemble(turns, "memory", rng, context, answer_slots=slots, copied=values)


def _told(composer: Composer, rng: random.Random) -> _Told | None:
    """A fact with hand-written ways to tell it and to ask for it."""
    found = composer.distinct(composer.tellable, 1, rng)
    if not found or (tell := found[0].intent.tell) is None:
        return None
    item = found[0]
    told = fill(rng.choice(training_lines(tell.user)), item.values)
    question = fill(rng.choice(training_lines(item.intent.user)), item.values)
    if not is_statement(told) or line_language(question) != composer.voice.language:
        return None
    return _Told(told, question, (told, fill(rng.choice(tell.reply), item.values)))


def _any_line(composer: Composer, templates: Exchange, rng: random.Random) -> _Told:
    """Whatever a fan of this character may have said, asked for by one of its words."""
    language = composer.voice.language
    talk = [intent for intent in composer.voice.intents if intent.category != "refusal"]
    for _ in range(200):
        intent = rng.choice(talk)
        exchange = intent.tell if intent.tell and rng.random() < 0.7 else intent
        values = composer.sampled(intent, rng)
        line = fill(rng.choice(training_lines(exchange.user)), values)
        if quotable(line, language):
            return _Told(line, question_for(line, templates, rng), (line, fill(rng.choice(exchange.reply), values)))
    raise AssertionError(f"{composer.voice.name}: fans say nothing that could be quoted")


def _before(composer: Composer, told: _Told, rng: random.Random) -> list[str]:
    """Earlier turns: mostly the session in which it was told, else another one."""
    if told.exchange is None or rng.random() >= SAME_SESSION:
        return composer.history(set(), rng)
    between = composer.history(set(), rng, rng.randint(0, composer.recipe.max_history))
    return [composer.typed(told.exchange[0], "memory", rng), told.exchange[1], *between]
