"""Reading exercises: questions on the knowledge base together with the passages that retrieval would bring."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from data_pipelines.grammar.facts import GroundedFact, shared_pairs
from data_pipelines.grammar.intents import training_lines
from data_pipelines.grammar.voices import Voice
from memory.excerpts import picked, sentences

MOST_PASSAGES = 3

LOOK_ALIKE = 0.7
"""Share of distractors that share words with the question, as those that a search brings do."""

SENTENCES = 2
"""Sentences that ``serve_local.yaml`` shows (``top_sentences``)."""

ONE_SENTENCE = 0.2
"""Share of quoted answers with only the sentence that answers."""

LOOKED_AT = 16
"""Passages among which a look-alike is sought; all of them would take too long for every conversation."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Passages and the exchanges about them, with what each answer must contain."""

    passages: tuple[str, ...]
    exchanges: tuple[tuple[str, str], ...]
    golds: tuple[str, ...] = ()

    @property
    def gold(self) -> tuple[str, ...]:
        """What the last answer must contain; empty when it is not in the passages."""
        return tuple(value for value in self.golds[-1:] if value)


def reading(voice: Voice, count: int, made_up: float, unanswered: float, rng: random.Random) -> Reading:
    """``count`` questions (fewer when their passages do not go together) on at most three passages."""
    chosen = _together(voice, count, rng)
    if voice.unknown and rng.random() < unanswered:
        return _without_answer(voice, chosen[0], rng)
    texts: dict[str, str] = {}
    exchanges: list[tuple[str, str]] = []
    golds: list[str] = []
    for item in chosen:
        original = item.passage.text
        present = texts.setdefault(original, original)
        told = item.made_up(rng) if rng.random() < made_up and present == original else item
        if told is not item:
            texts[original] = told.passage.text
        if told.fact.gold[0] in texts[original]:
            answer = rng.choice([line for line in told.fact.say if told.fact.gold[0] in line] or told.fact.say)
            exchanges.append((rng.choice(training_lines(told.fact.ask)), answer))
            golds.append(next((value for value in told.fact.gold if value in answer), ""))
    passages = [*texts.values(), *_others(voice, chosen, MOST_PASSAGES - len(texts), rng)]
    rng.shuffle(passages)
    return Reading(tuple(passages), tuple(exchanges), tuple(golds))


def quoted_reading(voice: Voice, made_up: float, unanswered: float, rng: random.Random) -> Reading:
    """One question on the sentences that serving would pick, and the reply that quotes them."""
    item = rng.choice(voice.facts)
    question = rng.choice(training_lines(item.fact.ask))
    if voice.unknown and rng.random() < unanswered:
        found = _without_answer(voice, item, rng)
        return Reading(tuple(_shown(question, found.passages)), ((question, found.exchanges[0][1]),))
    told = item.made_up(rng) if rng.random() < made_up else item
    gold = told.fact.gold[0]
    lines = _shown(question, [told.passage.text, *_others(voice, [item], 1, rng)])
    answering = [line for line in sentences(told.passage.text) if gold in line] or [told.passage.text]
    if not any(gold in line for line in lines):
        lines = [*lines[:-1], answering[0]]
    if rng.random() < ONE_SENTENCE:
        lines = [line for line in lines if gold in line][:1]
    answer = voice.quoting.answer(question, lines, rng)
    assert answer is not None, "the voice quotes in the language of its questions"
    return Reading(tuple(lines), ((question, answer),), (gold,))


def _shown(question: str, passages: Sequence[str]) -> list[str]:
    """What serving shows of the passages."""
    return picked(question, [sentence for text in passages for sentence in sentences(text)], SENTENCES)


def _together(voice: Voice, count: int, rng: random.Random) -> list[GroundedFact]:
    """A fact and, mostly from the same document, others whose passages still fit."""
    first = rng.choice(voice.facts)
    same = [other for other in voice.facts if other.fact.doc == first.fact.doc and other is not first]
    found, passages = [first], {first.passage.text}
    while len(found) < count:
        other = rng.choice(same if same and rng.random() < 0.7 else voice.facts)
        if other in found or len(passages | {other.passage.text}) > MOST_PASSAGES:
            count -= 1
            continue
        found.append(other)
        passages.add(other.passage.text)
    return found


def _others(voice: Voice, chosen: list[GroundedFact], most: int, rng: random.Random) -> list[str]:
    """Up to ``most`` passages that answer none of the questions."""
    golds = [value for item in chosen for value in item.fact.gold]
    question = rng.choice(chosen[0].fact.ask)
    drawn = [_other(voice, question, rng) for _ in range(rng.randint(0, max(0, most)))]
    return [text for text in dict.fromkeys(drawn) if not any(gold in text for gold in golds)]


def _other(voice: Voice, question: str, rng: random.Random) -> str:
    if rng.random() > LOOK_ALIKE:
        return rng.choice(voice.passages).text
    drawn = rng.sample(voice.passages, min(len(voice.passages), LOOKED_AT))
    return max(drawn, key=lambda passage: shared_pairs(question, passage.text)).text


def _without_answer(voice: Voice, item: GroundedFact, rng: random.Random) -> Reading:
    passages = _others(voice, [item], MOST_PASSAGES, rng)
    return Reading(tuple(passages), ((rng.choice(item.fact.ask), rng.choice(voice.unknown)),))
