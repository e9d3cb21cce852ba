"""What the reranker learns from: lines with texts of which one answers, or none."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from core.errors import ConfigurationError
from data_pipelines.grammar.composer import Composer, Told
from data_pipelines.grammar.facts import Passage
from data_pipelines.grammar.intents import fill, training_lines
from data_pipelines.grammar.voices import Voice, character_voice, characters
from memory.excerpts import sentences
from memory.recall import is_statement, said_line
from train_jobs.reference.general import general_voices
from train_jobs.reference.pairs import noisy, some_words

NEAREST = 24
"""Hard negatives are drawn from so many passages that share most characters with the question."""

QUESTIONS = 0.33
"""Share of lists under a question on the documents."""

SENTENCES = 0.4
"""Share of these over the sentences of the best passages, as small models are shown them."""

SOME_WORDS = 0.12
"""Share of lists under a few words of a passage, as people type them into a search box."""

SMALL_TALK = 0.25
"""Share of lists under a line that no passage answers, because it asks for nothing of the kind."""

TOLD = 0.3
"""Share of lists of lines that a fan said, under a question for one of them."""

AS_KEPT = 0.25
"""Share of the told lines that stand there as a profile or a memory has them."""

NOT_THERE = 0.15
"""Share of questions whose answer was taken out."""

TALK = frozenset({"greeting", "empathy", "everyday", "memory", "refusal", "identity", "not_in_documents"})
"""Categories of intents that documents say nothing about."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """A line and passages, of which the first one answers it, or none."""

    query: str
    passages: tuple[str, ...]
    answered: bool = True


@dataclass(frozen=True, slots=True)
class Asker:
    """One knowledge base, and those who talk to its character."""

    voice: Voice
    talkers: tuple[Composer, ...]

    @property
    def tellers(self) -> list[Composer]:
        """Those who tell facts and ask for them later."""
        return [talker for talker in self.talkers if len(talker.tellable) > 1]

    def line(self, rng: random.Random) -> str:
        """Something that asks for nothing in the documents."""
        return rng.choice(rng.choice(self.talkers).dialogue(rng).turns[::2])


@dataclass(frozen=True, slots=True)
class RankingSource:
    """Draws lines with passages that do and do not answer them."""

    askers: tuple[Asker, ...]
    negatives: int

    @staticmethod
    def load(negatives: int) -> RankingSource:
        """Every character that has facts; Korean ones also hear the general voices."""
        voices = [voice for name in characters() if (voice := character_voice(name)).facts]
        if not voices:
            raise ConfigurationError("no character has a facts.yaml: there is nothing to learn ranking from")
        general = tuple(Composer(voice) for voice in general_voices())
        askers = [
            Asker(voice, tuple(Composer(own) for own in [talk_only(voice)] if own.intents) + heard)
            for voice in voices
            for heard in [general if voice.language == "ko" else ()]
        ]
        return RankingSource(tuple(askers), negatives)

    def stream(self, seed: int) -> Iterator[Ranking]:
        """Endless, seeded."""
        rng = random.Random(seed)
        while True:
            asker = rng.choice(self.askers)
            kinds = {
                self._question: QUESTIONS,
                self._some_words: SOME_WORDS,
                self._talk: SMALL_TALK if asker.talkers else 0.0,
                self._told: TOLD if asker.tellers else 0.0,
            }
            yield rng.choices(list(kinds), list(kinds.values()))[0](asker, rng)

    def _talk(self, asker: Asker, rng: random.Random) -> Ranking:
        return self._unanswered(asker, asker.line(rng), (), rng)

    def _question(self, asker: Asker, rng: random.Random) -> Ranking:
        item = rng.choice(asker.voice.facts)
        query = noisy(rng.choice(training_lines(item.fact.ask)), rng)
        if rng.random() < NOT_THERE:
            return self._unanswered(asker, query, item.fact.gold, rng)
        wrong = self._near(asker.voice, query, item.fact.gold, self.negatives, rng)
        texts = (passage_text(item.passage), *wrong)
        by_sentence = _sentences(texts, item.fact.gold, self.negatives, rng) if rng.random() < SENTENCES else ()
        return Ranking(query, by_sentence or texts)

    def _told(self, asker: Asker, rng: random.Random) -> Ranking:
        """Something that the fan told, among other things that they told and said."""
        teller = rng.choice(asker.tellers)
        intents = rng.sample(teller.tellable, min(len(teller.tellable), self.negatives))
        asked, *others = [Told(intent, teller.sampled(intent, rng)) for intent in intents]
        query = noisy(fill(rng.choice(training_lines(asked.intent.user)), asked.values), rng)
        right, *wrong = [_as_told(teller, item, rng) for item in (asked, *others)]
        talk = teller.history({asked.intent.id}, rng, self.negatives)[::2]
        said = [said_line(turn) for turn in talk if is_statement(turn)]
        texts = rng.sample([*wrong, *said], min(self.negatives, len(wrong) + len(said)))
        if rng.random() < NOT_THERE:
            return Ranking(query, tuple(texts), answered=False)
        return Ranking(query, (right, *texts))

    def _some_words(self, asker: Asker, rng: random.Random) -> Ranking:
        voice = asker.voice
        passage = rng.choice(voice.passages)
        query = noisy(some_words(rng.choice(sentences(passage.text)), rng), rng)
        near = self._near(voice, query, (passage.text,), self.negatives, rng)
        return Ranking(query, (passage_text(passage), *near))

    def _unanswered(self, asker: Asker, query: str, golds: Sequence[str], rng: random.Random) -> Ranking:
        return Ranking(query, self._near(asker.voice, query, golds, self.negatives + 1, rng), answered=False)

    def _near(
        self, voice: Voice, query: str, golds: Sequence[str], count: int, rng: random.Random
    ) -> tuple[str, ...]:
        """Passages without the answer, those that look most like the question among them."""
        wrong = [passage for passage in voice.passages if not any(gold in passage.text for gold in golds)]
        drawn = rng.sample(wrong, min(len(wrong), 4 * NEAREST))
        near = sorted(map(passage_text, drawn), key=lambda text: -overlap(query, text))[:NEAREST]
        return tuple(rng.sample(near, min(len(near), count)))


def _sentences(texts: Sequence[str], golds: Sequence[str], most: int, rng: random.Random) -> tuple[str, ...]:
    """A sentence of the first text that answers, and others of the first three; nothing when it has no such one."""
    titled = [(title, part) for title, _, text in (t.partition("\n") for t in texts[:3]) for part in sentences(text)]
    right = [f"{title}\n{part}" for title, part in titled if any(gold in part for gold in golds)]
    wrong = [f"{title}\n{part}" for title, part in titled if not any(gold in part for gold in golds)]
    return (rng.choice(right), *rng.sample(wrong, min(len(wrong), most))) if right and wrong else ()


def _as_told(teller: Composer, item: Told, rng: random.Random) -> str:
    """In the fan's own words, or as profile and memories hold it."""
    kept = teller.profile_line(item) or rng.choice(teller.facts_of(item))
    tell = item.intent.tell
    if tell is None or rng.random() < AS_KEPT:
        return kept
    return said_line(fill(rng.choice(training_lines(tell.user)), item.values))


def talk_only(voice: Voice) -> Voice:
    """The character without what its documents say."""
    intents = tuple(intent for intent in voice.intents if intent.category in TALK)
    return replace(voice, intents=intents, seeds=(), facts=(), passages=())


def passage_text(passage: Passage) -> str:
    """As the index holds it: title and text."""
    return f"{passage.title}\n{passage.text}"


def overlap(query: str, text: str) -> float:
    """Share of the question's character pairs that the text has too."""
    pairs = {query[index : index + 2] for index in range(len(query) - 1)}
    return sum(pair in text for pair in pairs) / max(1, len(pairs))
