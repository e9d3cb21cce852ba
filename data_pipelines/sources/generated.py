"""Conversations written by a language model after hand-written examples."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from core.contracts import USER_MACRO
from core.errors import ConfigurationError
from data_pipelines.config import GeneratedSource
from data_pipelines.rows import READS_CONTEXT, Kind, Row, make_row
from data_pipelines.sources.base import Collected
from data_pipelines.sources.language_model import (
    EndpointModel,
    LlmClient,
    LlmRequest,
    OfflineModel,
    ReplyCache,
    ask_all,
)
from personas.schema import Card

CHARS_PER_TOKEN = 1.6
"""Korean and Japanese text in common tokenizers; only the estimate depends on it."""

TASKS: dict[Kind, str] = {
    "persona": "everyday talk between a fan and the character",
    "worldview": "questions about the character's world, answered in character from the examples' facts only",
    "safety": "attempts to break character, abuse, demands for personal data; the character declines in character",
    "identity": "questions who the assistant is, answered with its own name and role",
    "multilingual": "questions in one language, some of them to be answered in another one",
}


@dataclass(frozen=True, slots=True)
class Estimate:
    """What generating will cost, before anything is sent."""

    requests: int
    cached: int
    tokens_in: int
    tokens_out: int
    usd: float

    def __str__(self) -> str:
        return (
            f"generation: {self.requests} requests to send ({self.cached} cached), about {self.tokens_in:,} tokens "
            f"in and at most {self.tokens_out:,} out, at most ${self.usd:.2f}"
        )


@dataclass(frozen=True)
class GenerationPlan:
    """All requests of a source."""

    config: GeneratedSource
    card: Card
    requests: list[tuple[Kind, LlmRequest]]

    def estimate(self, cache: ReplyCache) -> Estimate:
        """Tokens and price of the requests whose replies are not there yet."""
        missing = [request for _, request in self.requests if cache.get(request) is None]
        tokens_in = sum(int((len(one.system) + len(one.prompt)) / CHARS_PER_TOKEN) for one in missing)
        tokens_out = sum(one.max_tokens for one in missing)
        price = tokens_in * self.config.usd_per_million_in + tokens_out * self.config.usd_per_million_out
        return Estimate(len(missing), len(self.requests) - len(missing), tokens_in, tokens_out, price / 1e6)

    def run(self, cache: ReplyCache, client: LlmClient | None = None) -> Collected:
        """Ask, and read the replies; what cannot be read is counted."""
        client = client or (EndpointModel(self.config) if self.config.base_url else OfflineModel())
        kinds = {request.key: kind for kind, request in self.requests}
        rows: dict[str, Row] = {}
        skipped: dict[str, int] = {}
        only_requests = [request for _, request in self.requests]
        for request, reply in ask_all(client, cache, only_requests, self.config.concurrency):
            for row in _rows(reply, self.card.id, kinds[request.key]):
                if row is None:
                    skipped["unreadable reply"] = skipped.get("unreadable reply", 0) + 1
                else:
                    rows[row.id] = row
        return Collected("generated", self.config.terms, list(rows.values()), skipped=skipped, note=self.config.model)


def plan(config: GeneratedSource, card: Card, seeds: Sequence[Row], seed: int) -> GenerationPlan:
    """The requests that the counts need, with examples drawn from the hand-written rows of the same kind."""
    requests: list[tuple[Kind, LlmRequest]] = []
    for kind, count in sorted(config.counts.items()):
        examples = [row for row in seeds if row.kind == kind and READS_CONTEXT not in row.style_tags]
        if not examples:
            raise ConfigurationError(f"generated: {card.id} has no hand-written conversation of the kind {kind!r}")
        for number in range(-(-count // config.per_request)):
            rng = random.Random(f"{seed}:{kind}:{number}")
            shown = rng.sample(examples, min(config.examples, len(examples)))
            requests.append((kind, _request(config, card, kind, shown, number)))
    return GenerationPlan(config, card, requests)


def _request(config: GeneratedSource, card: Card, kind: Kind, shown: Sequence[Row], number: int) -> LlmRequest:
    conversations = [[turn.model_dump() for turn in row.messages] for row in shown]
    examples = json.dumps(conversations, ensure_ascii=False)
    system = (
        "You write training conversations for a fictional character. Answer with one JSON array of conversations and "
        "nothing else; a conversation is an array of {role, content}, beginning with user and ending with assistant. "
        f"The fan's name is always written {USER_MACRO}.\n{card.prompt.persona}\n{card.prompt.safety}"
    )
    prompt = (
        f"Write {config.per_request} new conversations, unlike the examples in subject and wording. "
        f"Subject: {TASKS[kind]}. Batch {number}.\nExamples:\n{examples}"
    )
    return LlmRequest(
        endpoint=config.base_url or "offline",
        model=config.model,
        system=system,
        prompt=prompt,
        max_tokens=config.max_tokens,
        temperature=config.temperature,
        number=number,
    )


def _rows(reply: str, character: str, kind: Kind) -> Iterator[Row | None]:
    """The conversations of a reply; ``None`` for each one that is none."""
    for messages in _conversations(reply):
        try:
            yield make_row(
                character_id=character, dataset_source="generated", kind=kind, category=kind, messages=tuple(messages)
            )
        except (ValidationError, KeyError, TypeError):
            yield None


def _conversations(reply: str) -> list[Any]:
    """The array in a reply, fenced or not; one ``None`` when there is none."""
    try:
        found = json.loads(reply[reply.index("[") : reply.rindex("]") + 1])
    except ValueError:
        return [None]
    return found if isinstance(found, list) else [None]
