"""Conversations in the platform's prompt format, composed from intents, seeds and public small talk.

Deterministic: row ``i`` of a voice depends on the seed, the voice and ``i`` alone.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypedDict

from core.contracts import USER_MACRO, Message
from train_jobs.reference.intents import (
    Intent,
    fill,
    made_up_like,
    sample_values,
    training_lines,
)
from train_jobs.reference.voices import Voice, character_voice

FAVOURITES = {"haneul": ("하늘", "루나", "세아", "유진", "미르", "별빛")}
NAME_LINE = f"이름: {USER_MACRO}"
CASUAL_TAILS = ("ㅋㅋ", "ㅋㅋㅋ", "ㅎㅎ", "~", "!", "..", "ㅠ")
SAD_TAILS = ("ㅠㅠ", "ㅠ", "ㅜㅜ", "...", "…")


class Row(TypedDict):
    """A training row as TRL and ``datasets`` read it."""

    messages: list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How conversations are composed; the defaults are what the shipped model was trained on."""

    made_up: float = 0.35
    """Share of slots that are filled with a word that does not exist."""

    alone: float = 0.4
    """Share of conversations without earlier turns."""

    max_history: int = 6
    """Most earlier exchanges."""

    fan_section: float = 0.5
    """Share of prompts that say something about the fan."""

    distractors: float = 0.5
    """Share of prompts with facts that the reply does not need."""

    seeds: float = 0.15
    """Share of conversations taken from the hand-written ones, where a voice has them."""

    recall: float = 0.3
    """Share of the other conversations that are drawn from questions whose answer stands in the context."""

    noise: float = 0.3
    """Share of user lines that are typed carelessly."""


@dataclass(frozen=True, slots=True)
class ContextLines:
    """What the second system message says."""

    fan: tuple[str, ...] = ()
    memories: tuple[str, ...] = ()
    knowledge: tuple[str, ...] = ()

    def render(self) -> str:
        """The sections that hold something, in the fixed order."""
        sections = [
            ("[팬]", list(self.fan)),
            ("[기억]", [f"- {line}" for line in self.memories]),
            ("[자료]", [f"- {line}" for line in self.knowledge]),
        ]
        return "\n".join("\n".join([head, *lines]) for head, lines in sections if lines)


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A composed conversation: turns alternate user and assistant and end with the assistant."""

    system: str
    turns: tuple[str, ...]
    context: ContextLines = field(default_factory=ContextLines)
    answer_slots: tuple[str, ...] = ()
    """Values from the context that the last reply must repeat."""

    def messages(self) -> list[Message]:
        """In the order in which serving sends them: the context stands right before the last user message."""
        spoken = [Message("assistant" if index % 2 else "user", text) for index, text in enumerate(self.turns)]
        context = self.context.render()
        before_last = [Message("system", context)] if context else []
        return [Message("system", self.system), *spoken[:-2], *before_last, *spoken[-2:]]

    def row(self) -> Row:
        return {"messages": [{"role": item.role, "content": item.content} for item in self.messages()]}


@dataclass(frozen=True, slots=True)
class Composer:
    """Composes conversations of one voice."""

    voice: Voice
    recipe: Recipe = field(default_factory=Recipe)

    def dialogue(self, rng: random.Random) -> Dialogue:
        """One training conversation."""
        if self.voice.pairs:
            return self._small_talk(rng)
        if self.voice.seeds and (not self.voice.intents or rng.random() < self.recipe.seeds):
            return self._from_seed(rng)
        return self._from_intent(self._pick(rng), rng)

    def _pick(self, rng: random.Random) -> Intent:
        asking = [intent for intent in self.voice.intents if _copied_slots(intent)]
        return rng.choice(asking if asking and rng.random() < self.recipe.recall else self.voice.intents)

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
        calm = replace(self, recipe=replace(self.recipe, noise=0.0))
        return [calm._from_intent(intent, rng, user_line=line) for intent, line in chosen]

    def probes(self, rng: random.Random, count: int) -> list[Dialogue]:
        """Questions whose answer is a made-up word in the context."""
        askable = [intent for intent in self.voice.intents if _copied_slots(intent)]
        calm = replace(self, recipe=replace(self.recipe, noise=0.0, made_up=1.0, alone=0.8))
        return [calm._from_intent(rng.choice(askable), rng) for _ in range(count)] if askable else []

    def _from_intent(self, intent: Intent, rng: random.Random, user_line: str | None = None) -> Dialogue:
        values = sample_values(intent.slots, rng, self.recipe.made_up)
        line = user_line or rng.choice(training_lines(intent.user))
        turns = [self._typed(fill(line, values), intent.category, rng), fill(rng.choice(intent.reply), values)]
        if intent.follow and not intent.context and user_line is None and rng.random() < 0.4:
            follow = rng.choice(training_lines(intent.follow.user))
            turns += [
                self._typed(fill(follow, values), intent.category, rng),
                fill(rng.choice(intent.follow.reply), values),
            ]
        slots = tuple(values[name] for name in _copied_slots(intent) if values[name] in turns[-1])
        return Dialogue(
            system=rng.choice(self.voice.systems),
            turns=(*self._history(intent, rng), *turns),
            context=self._context(intent, values, rng),
            answer_slots=slots,
        )

    def _history(self, intent: Intent, rng: random.Random) -> list[str]:
        """Earlier exchanges of the same voice that need no facts."""
        talk = [other for other in self.voice.intents if not other.context and other.id != intent.id]
        if not talk or rng.random() < self.recipe.alone:
            return []
        turns: list[str] = []
        for _ in range(rng.randint(1, self.recipe.max_history)):
            other = rng.choice(talk)
            values = sample_values(other.slots, rng, self.recipe.made_up)
            exchanges = [other, other.follow] if other.follow and rng.random() < 0.4 else [other]
            for exchange in exchanges:
                line = fill(rng.choice(training_lines(exchange.user)), values)
                turns += [
                    self._typed(line, other.category, rng),
                    fill(rng.choice(exchange.reply), values),
                ]
        return turns[: 2 * self.recipe.max_history]

    def _context(self, intent: Intent, values: dict[str, str], rng: random.Random) -> ContextLines:
        memories: list[str] = []
        knowledge: list[str] = []
        own = [fill(line, values) for line in intent.context]
        (memories if intent.category == "memory" else knowledge).extend(own)
        if rng.random() < self.recipe.distractors:
            self._add_distractors(intent, memories, knowledge, rng)
        rng.shuffle(memories)
        rng.shuffle(knowledge)
        return ContextLines(self._fan(rng), tuple(memories), tuple(knowledge))

    def _add_distractors(self, intent: Intent, memories: list[str], knowledge: list[str], rng: random.Random) -> None:
        """Facts of other intents; never one that could contradict the facts of this one."""
        others = [
            other
            for other in self.voice.intents
            if other.context and other.id != intent.id and not set(other.slots) & set(intent.slots)
        ]
        for _ in range(rng.randint(0, 4)):
            if self.voice.passages and rng.random() < 0.3:
                knowledge.append(rng.choice(self.voice.passages))
            elif others:
                other = rng.choice(others)
                values = sample_values(other.slots, rng, self.recipe.made_up)
                line = fill(rng.choice(other.context), values)
                (memories if other.category == "memory" else knowledge).append(line)

    def _fan(self, rng: random.Random) -> tuple[str, ...]:
        if rng.random() >= self.recipe.fan_section:
            return ()
        lines = [NAME_LINE] if rng.random() < 0.85 else []
        if rng.random() < 0.4:
            lines.append(f"생일: {rng.randint(1, 12)}월 {rng.randint(1, 28)}일")
        favourites = FAVOURITES.get(self.voice.name)
        if favourites and rng.random() < 0.4:
            favourite = rng.choice(favourites)
            lines.append(f"최애: {made_up_like(favourite, rng) if rng.random() < 0.2 else favourite}")
        return tuple(lines)

    def _from_seed(self, rng: random.Random) -> Dialogue:
        seed = rng.choice(self.voice.seeds)
        is_memory = seed.category == "memory"
        context = ContextLines(self._fan(rng), seed.context if is_memory else (), () if is_memory else seed.context)
        return Dialogue(system=rng.choice(self.voice.systems), turns=seed.turns, context=context)

    def _small_talk(self, rng: random.Random) -> Dialogue:
        turns: list[str] = []
        for _ in range(rng.randint(1, 4)):
            question, answer = rng.choice(self.voice.pairs)
            turns += [self._typed(question, "everyday", rng), answer]
        return Dialogue(system=rng.choice(self.voice.systems), turns=tuple(turns))

    def _typed(self, line: str, category: str, rng: random.Random) -> str:
        """``line`` as somebody in a hurry types it."""
        if rng.random() >= self.recipe.noise or not line.strip():
            return line
        text = line.rstrip(".!?~ ") or line
        if self.voice.noisy and rng.random() < 0.5:
            text += rng.choice(SAD_TAILS if category == "empathy" else CASUAL_TAILS)
        elif " " in text and rng.random() < 0.4:
            position = rng.choice([index for index, char in enumerate(text) if char == " "])
            text = text[:position] + text[position + 1 :]
        return text


def _copied_slots(intent: Intent) -> list[str]:
    """Slots that stand in the context and in every reply, so that the answer can be checked."""
    facts = " ".join(intent.context)
    return [
        name
        for name in intent.slots
        if f"{{{name}}}" in facts and all(f"{{{name}}}" in reply for reply in intent.reply)
    ]


def row_rng(seed: int, voice: str, index: int) -> random.Random:
    """The randomness of one row."""
    return random.Random(f"{seed}:{voice}:{index}")


def character_rows(character: str, count: int, seed: int) -> list[Row]:
    """``count`` training conversations of a character, ``{"messages": [...]}`` each."""
    composer = Composer(character_voice(character))
    return [composer.dialogue(row_rng(seed, character, index)).row() for index in range(count)]


def heldout_prompts(character: str, n: int) -> list[Row]:
    """Prompts that end with a fan message which no training row holds; the reply is left out."""
    dialogues = Composer(character_voice(character)).validation(row_rng(0, f"{character}-held-out", 0), n)
    return [{"messages": item.row()["messages"][:-1]} for item in dialogues]


def copy_probes(voices: Sequence[Voice], seed: int, count: int) -> list[Dialogue]:
    """Recall questions over all ``voices``: the reply must repeat ``answer_slots``."""
    found: list[Dialogue] = []
    per_voice = max(1, count // max(1, len(voices)))
    for voice in voices:
        found += Composer(voice).probes(row_rng(seed, f"{voice.name}-probe", 0), per_voice)
    return [dialogue for dialogue in found if dialogue.answer_slots]
