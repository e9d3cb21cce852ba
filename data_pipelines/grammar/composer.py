"""Conversations in the platform's prompt format, composed from intents, seeds, facts and public small talk.

Deterministic: row ``i`` of a voice depends on the seed, the voice and ``i`` alone.
"""

from __future__ import annotations

import calendar
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from core.contracts import USER_MACRO
from data_pipelines.grammar.dialogue import ContextLines, Dialogue
from data_pipelines.grammar.intents import Exchange, Intent, fill, has_slot, sample_values, training_lines
from data_pipelines.grammar.made_up import made_up_like
from data_pipelines.grammar.reading import quoted_reading, reading
from data_pipelines.grammar.recipe import Recipe
from data_pipelines.grammar.typed import in_haeyo, typed_in_a_hurry
from data_pipelines.grammar.voices import Voice
from memory.recall import worth_keeping
from personas.context_labels import ContextLabels, labels_for

MONTHS = tuple(calendar.month_name)[1:]
BIRTHDAY_WORDS = ("생일", "誕生日", "birthday")
FAVOURITE_WORDS = ("최애 멤버", "推し", "favourite member")

OWN_WORDS = 0.5
"""Share of facts about the fan that stand there as the fan said them: the memory keeps both kinds."""


@dataclass(frozen=True, slots=True)
class Told:
    """An intent with the values of this conversation."""

    intent: Intent
    values: dict[str, str]


@dataclass(frozen=True, slots=True)
class Composer:
    """Composes conversations of one voice."""

    voice: Voice
    recipe: Recipe = field(default_factory=Recipe)

    def dialogue(self, rng: random.Random) -> Dialogue:
        """One training conversation."""
        voice, shares = self.voice, self.recipe.shares
        if voice.pairs:
            return self.small_talk(rng)
        if not voice.intents:
            return self.from_seed(rng)
        kinds = {
            self.from_seed: shares.seeds if voice.seeds else 0.0,
            self.from_facts: shares.facts if voice.facts else 0.0,
            self.told: shares.told if self.tellable else 0.0,
            self.drill: shares.drills if len(self._askable()) > 3 else 0.0,
            self.recall: shares.recall if self._askable() else 0.0,
        }
        kinds[self.talk] = max(0.0, 1.0 - sum(kinds.values()))
        return rng.choices(list(kinds), list(kinds.values()))[0](rng)

    # --- kinds of conversation -------------------------------------------------------------------------------

    def talk(self, rng: random.Random) -> Dialogue:
        return self.from_intent(rng.choice(self.voice.intents), rng)

    def recall(self, rng: random.Random) -> Dialogue:
        return self.from_intent(rng.choice(self._askable()), rng)

    def from_intent(self, intent: Intent, rng: random.Random, user_line: str | None = None) -> Dialogue:
        """A conversation that ends with ``intent``; its facts stand in the context."""
        values = sample_values(intent.slots, rng, self.recipe.made_up)
        line = user_line or rng.choice(training_lines(intent.user))
        turns = [self.typed(fill(line, values), intent.category, rng), fill(rng.choice(intent.reply), values)]
        if intent.follow and not intent.context and user_line is None and rng.random() < 0.4:
            turns += self._exchange(intent.follow, intent.category, values, rng)
        slots = tuple(values[name] for name in copied_slots(intent) if values[name] in turns[-1])
        return self.assemble(
            (*self.history({intent.id}, rng), *turns),
            intent.category,
            rng,
            context=self._context([Told(intent, values)], rng),
            answer_slots=slots,
            copied=values.values(),
        )

    def drill(self, rng: random.Random) -> Dialogue:
        """Several questions in a row on one context."""
        asked = self.distinct(self._askable(), rng.randint(2, 5), rng)
        turns = [
            line for item in asked for line in self._exchange(item.intent, item.intent.category, item.values, rng)
        ]
        return self.assemble(
            tuple(turns),
            "memory",
            rng,
            context=self._context(asked, rng),
            context_at=0,
            answer_slots=last_slots(asked),
            copied=all_values(asked),
        )

    def told(self, rng: random.Random) -> Dialogue:
        """The fan tells things, talks on, and asks for them later."""
        asked = self.distinct(self.tellable, rng.choice((1, 1, 2, 3)), rng)
        turns: list[str] = []
        for item in asked:
            if item.intent.tell:
                turns += self._exchange(item.intent.tell, "memory", item.values, rng)
            between = rng.randint(0, min(2, self.recipe.max_history))
            turns += self.history({other.intent.id for other in asked}, rng, between)
        turns += self.history({item.intent.id for item in asked}, rng, rng.randint(0, self.recipe.max_history))
        rng.shuffle(asked)
        for item in asked:
            turns += self._exchange(item.intent, "memory", item.values, rng)
        context = ContextLines(self.fan_lines(rng)) if rng.random() < 0.7 else self._context([], rng)
        return self.assemble(
            tuple(turns),
            "memory",
            rng,
            context=context,
            answer_slots=last_slots(asked),
            copied=all_values(asked),
        )

    def from_facts(self, rng: random.Random) -> Dialogue:
        """Questions on the knowledge base: mostly as serving asks them, partly several on one context."""
        count = 1 if rng.random() < 0.5 else rng.randint(2, 4)
        recipe = self.recipe
        if self.voice.quoting.quoted:
            count, found = 1, quoted_reading(self.voice, recipe.made_up, recipe.unanswered, rng)
        else:
            found = reading(self.voice, count, recipe.made_up, recipe.unanswered, rng)
        history = self.history(set(), rng) if count == 1 else []
        turns = [*history]
        for question, answer in found.exchanges:
            turns += [self.typed(question, "knowledge", rng), answer]
        return self.assemble(
            tuple(turns),
            "knowledge",
            rng,
            context=ContextLines(self.fan_lines(rng), (), found.passages),
            context_at=len(history),
            answer_slots=found.gold,
            copied=found.golds,
        )

    def from_seed(self, rng: random.Random) -> Dialogue:
        seed = rng.choice(self.voice.seeds)
        is_memory = seed.category == "memory"
        context = ContextLines(
            self.fan_lines(rng), seed.context if is_memory else (), () if is_memory else seed.context
        )
        return self.assemble(seed.turns, seed.category, rng, context=context)

    def small_talk(self, rng: random.Random) -> Dialogue:
        turns: list[str] = []
        for _ in range(rng.randint(1, 4)):
            question, answer = rng.choice(self.voice.pairs)
            turns += [self.typed(question, "everyday", rng), answer]
        return self.assemble(tuple(turns), "everyday", rng, context=ContextLines())

    # --- what training never sees -----------------------------------------------------------------------------

    def held_out(self) -> Iterator[tuple[Intent, str]]:
        """The user lines that training never sees, with their intents."""
        for intent in self.voice.intents:
            trained = set(training_lines(intent.user))
            yield from ((intent, line) for line in intent.user if line not in trained)

    def validation(self, rng: random.Random, count: int) -> list[Dialogue]:
        """Conversations whose last user line was held out."""
        lines = list(self.held_out())
        rng.shuffle(lines)
        chosen = [lines[index % len(lines)] for index in range(count)] if lines else []
        calm = replace(self, recipe=replace(self.recipe, noise=0.0, polite_users=0.0))
        return [calm.from_intent(intent, rng, user_line=line) for intent, line in chosen]

    def probes(self, rng: random.Random, count: int) -> dict[str, list[Dialogue]]:
        """Questions by what they test: ``made_up`` and ``known`` words in the context, ``told`` ones, ``facts``."""
        calm = replace(
            self, recipe=replace(self.recipe, noise=0.0, polite_users=0.0, made_up=0.0, unanswered=0.0, alone=0.8)
        )
        invented = replace(calm, recipe=replace(calm.recipe, made_up=1.0))
        found: dict[str, list[Dialogue]] = {}
        if self._askable():
            found["known"] = [calm.recall(rng) for _ in range(count)]
            found["made_up"] = [invented.recall(rng) for _ in range(count)]
        if self.tellable:
            found["told"] = [calm.told(rng) for _ in range(count)]
        if self.voice.facts:
            found["facts"] = [calm.from_facts(rng) for _ in range(count)]
        return {kind: [item for item in items if item.answer_slots] for kind, items in found.items()}

    # --- parts ------------------------------------------------------------------------------------------------

    def assemble(
        self,
        turns: tuple[str, ...],
        category: str,
        rng: random.Random,
        context: ContextLines,
        context_at: int = -2,
        answer_slots: tuple[str, ...] = (),
        copied: Iterable[str] = (),
    ) -> Dialogue:
        system = rng.choice(self.voice.systems)
        if rng.random() < self.recipe.brief:
            system = first_sentence(system)
        language = self.voice.language
        return Dialogue(system, turns, context, language, context_at, answer_slots, tuple(copied), category)

    def _askable(self) -> list[Intent]:
        return [intent for intent in self.voice.intents if copied_slots(intent)]

    @property
    def tellable(self) -> list[Intent]:
        """Intents whose facts a fan can tell and ask for."""
        return [intent for intent in self.voice.intents if intent.tell and copied_slots(intent)]

    def distinct(self, intents: Sequence[Intent], count: int, rng: random.Random) -> list[Told]:
        """Up to ``count`` of ``intents`` whose facts cannot be mistaken for each other's."""
        found: list[Told] = []
        taken: set[str] = set()
        for intent in rng.sample(intents, len(intents)):
            if len(found) < count and not taken & set(intent.slots):
                taken |= set(intent.slots)
                found.append(Told(intent, sample_values(intent.slots, rng, self.recipe.made_up)))
        return found

    def _exchange(self, exchange: Exchange, category: str, values: dict[str, str], rng: random.Random) -> list[str]:
        line = fill(rng.choice(training_lines(exchange.user)), values)
        return [self.typed(line, category, rng), fill(rng.choice(exchange.reply), values)]

    def history(self, without: set[str], rng: random.Random, exchanges: int | None = None) -> list[str]:
        """Earlier exchanges of the same voice that need no facts; some conversations have none."""
        talk = [other for other in self.voice.intents if not other.context and other.id not in without]
        if exchanges is None:
            exchanges = 0 if rng.random() < self.recipe.alone else rng.randint(1, self.recipe.max_history)
        turns: list[str] = []
        while talk and len(turns) < 2 * exchanges:
            other = rng.choice(talk)
            values = sample_values(other.slots, rng, self.recipe.made_up)
            turns += self._exchange(other, other.category, values, rng)
            if other.follow and rng.random() < 0.4:
                turns += self._exchange(other.follow, other.category, values, rng)
        return turns[: 2 * exchanges]

    def _context(self, items: Sequence[Told], rng: random.Random) -> ContextLines:
        fan, memories, knowledge = list(self.fan_lines(rng)), list[str](), list[str]()
        for item in items:
            line = self.profile_line(item)
            if line and (line in self.facts_of(item) or rng.random() < 0.6):
                label = line.partition(":")[0]
                fan = [*(other for other in fan if not other.startswith(label)), line]
            else:
                (memories if item.intent.category == "memory" else knowledge).extend(self.facts_of(item))
        if rng.random() < self.recipe.distractors:
            self._add_distractors(items, memories, knowledge, rng)
        rng.shuffle(memories)
        rng.shuffle(knowledge)
        return ContextLines(tuple(fan), tuple(memories), tuple(knowledge))

    @staticmethod
    def facts_of(item: Told) -> list[str]:
        return [fill(text, item.values) for text in item.intent.context]

    def sampled(self, intent: Intent, rng: random.Random) -> dict[str, str]:
        """Values for the blanks of ``intent``, some of them words that do not exist."""
        return sample_values(intent.slots, rng, self.recipe.made_up)

    def profile_line(self, item: Told) -> str | None:
        """The fact as the profile has it, when it is one that a profile holds."""
        labels, text = labels_for(self.voice.language), " ".join(item.intent.context)
        said = self.facts_of(item)
        if len(said) == 1 and said[0].startswith((f"{labels.birthday}: ", f"{labels.favorite}: ")):
            return said[0]
        if {"month", "day"} <= item.values.keys() and any(word in text for word in BIRTHDAY_WORDS):
            return birthday_line(labels, int(item.values["month"]), int(item.values["day"]))
        if len(item.values) == 1 and any(word in text for word in FAVOURITE_WORDS):
            return f"{labels.favorite}: {next(iter(item.values.values()))}"
        return None

    def _add_distractors(
        self, items: Sequence[Told], memories: list[str], knowledge: list[str], rng: random.Random
    ) -> None:
        """Facts of other intents; never one that could contradict the facts that are asked for."""
        ids, slots = {item.intent.id for item in items}, {name for item in items for name in item.intent.slots}
        others = [
            other
            for other in self.voice.intents
            if other.context and other.id not in ids and not slots & set(other.slots)
        ]
        for _ in range(rng.randint(0, 4)):
            if self.voice.passages and rng.random() < 0.15:
                knowledge.append(rng.choice(self.voice.passages).text)
            elif others:
                other = rng.choice(others)
                if other.tell and rng.random() < OWN_WORDS:
                    memories += worth_keeping([self._told_line(other.tell, other, rng)])
                    continue
                line = fill(rng.choice(other.context), sample_values(other.slots, rng, self.recipe.made_up))
                (memories if other.category == "memory" else knowledge).append(line)

    def _told_line(self, tell: Exchange, intent: Intent, rng: random.Random) -> str:
        return fill(rng.choice(training_lines(tell.user)), self.sampled(intent, rng))

    def fan_lines(self, rng: random.Random) -> tuple[str, ...]:
        if rng.random() >= self.recipe.fan_section:
            return ()
        labels = labels_for(self.voice.language)
        lines = [f"{labels.name}: {USER_MACRO}"] if rng.random() < 0.85 else []
        if rng.random() < 0.4:
            lines.append(birthday_line(labels, rng.randint(1, 12), rng.randint(1, 28)))
        if self.voice.favourites and rng.random() < 0.4:
            favourite = rng.choice(self.voice.favourites)
            lines.append(f"{labels.favorite}: {made_up_like(favourite, rng) if rng.random() < 0.2 else favourite}")
        return tuple(lines)

    def typed(self, line: str, category: str, rng: random.Random) -> str:
        if self.voice.language == "ko" and rng.random() < self.recipe.polite_users:
            line = in_haeyo(line)
        if rng.random() >= self.recipe.noise or not line.strip():
            return line
        return typed_in_a_hurry(line, category, self.voice.noisy, rng)


def copied_slots(intent: Intent) -> list[str]:
    """Slots that stand in the context and in every reply, so that the answer can be checked."""
    facts = " ".join(intent.context)
    return [
        name
        for name in intent.slots
        if has_slot(facts, name) and all(has_slot(reply, name) for reply in intent.reply)
    ]


def first_sentence(text: str) -> str:
    return re.split(r"(?<=[.。!?])", text, maxsplit=1)[0].strip()


def birthday_line(labels: ContextLabels, month: int, day: int) -> str:
    """The profile's line; made-up numbers may lie outside the calendar, where a language writes them as digits."""
    name = MONTHS[month - 1] if 1 <= month <= 12 else str(month)
    return f"{labels.birthday}: {labels.date.format(month=month, month_name=name, day=day)}"


def last_slots(asked: Sequence[Told]) -> tuple[str, ...]:
    """What the reply to the last question must repeat."""
    return tuple(asked[-1].values[name] for name in copied_slots(asked[-1].intent)) if asked else ()


def all_values(asked: Sequence[Told]) -> list[str]:
    return [value for item in asked for value in item.values.values()]


def row_rng(seed: int, voice: str, index: int) -> random.Random:
    """The randomness of one row."""
    return random.Random(f"{seed}:{voice}:{index}")
