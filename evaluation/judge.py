"""A language model as judge: does the character stay in character, from 1 to 5.

Any endpoint that speaks OpenAI's chat protocol. What it answers must be the asked JSON and nothing else; what is not
is asked again, and after the last attempt counted as a failure. A score is never made up.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from core.errors import ArtistMindError
from evaluation.endpoint import openai_base
from evaluation.http import Patience, PatientHttp
from evaluation.items import Strict
from evaluation.replies import Played
from personas.schema import Card

PASSES = 4
"""From this score on a conversation counts as in character."""


class JudgeSettings(BaseSettings):
    """From the environment (``ARTISTMIND_JUDGE_…``); the command's flags come first."""

    model_config = SettingsConfigDict(env_prefix="ARTISTMIND_JUDGE_", frozen=True, extra="forbid")

    url: str | None = None
    """The endpoint, with or without ``/v1``; unset: no judge."""

    model: str | None = None
    """The judge's name on that endpoint."""

    key: str | None = Field(default=None, repr=False)
    """Sent as bearer token; only ever read from the environment."""

    attempts: int = Field(default=3, ge=1)
    """How often a conversation is shown to it until its answer can be read."""

    requests_per_minute: float = Field(default=60, gt=0)
    """Pace of the requests; a paid endpoint has a limit."""

    timeout_s: float = Field(default=120, gt=0)
    """For one request."""


class Verdict(Strict):
    """What the judge must answer, exactly."""

    reason: str
    score: Annotated[int, Field(strict=True, ge=1, le=5)]


class Judgement(Strict):
    item_id: str
    score: int | None = None
    reason: str = ""
    failure: str | None = None
    """Why there is no score."""


RUBRICS_DIR = Path(__file__).parent / "rubrics"
_FORM = 'Answer with this JSON object and nothing else: {"reason": "<one sentence>", "score": <1-5>}'


def sheet(card: Card) -> str:
    """The character as the judge sees it."""
    emoji = card.speech.emoji
    lines = [
        f"{card.display_name}: {card.tagline}",
        "identity: " + ", ".join(f"{key} {value}" for key, value in card.identity.items()),
        "traits: " + "; ".join(card.traits),
        f"speech: {card.speech.level}, {card.speech.ratio:.0%} of sentences",
        f"habits: {' / '.join(card.speech.habits)}",
        f"emoji: {' '.join(emoji.allowed) or 'none'}, at most {emoji.max_per_reply} per reply",
        "taboos: " + "; ".join(card.forbidden),
    ]
    return "\n".join(lines)


def rubric(language: str) -> str:
    """The scale in the character's language; in English for languages without one."""
    path = RUBRICS_DIR / f"{language}.md"
    return (path if path.is_file() else RUBRICS_DIR / "en.md").read_text(encoding="utf-8")


def prompt(card: Card, played: Played) -> list[dict[str, str]]:
    """The request for one conversation; what was said goes in as JSON, so that it cannot pass for our words."""
    turns = [
        {"fan": line, "character": reply.text}
        for lines, replies in zip(played.asked, played.replies, strict=True)
        for line, reply in zip(lines, replies, strict=True)
    ]
    return [
        {"role": "system", "content": f"{rubric(card.language)}\n{_FORM}\n\n# Character\n{sheet(card)}"},
        {"role": "user", "content": json.dumps(turns, ensure_ascii=False, indent=1)},
    ]


def parse(answer: str) -> Verdict:
    """The verdict, strictly: one JSON object with these fields; a code fence around it is forgiven.

    Raises:
        ValueError: It is something else.
    """
    bare = answer.strip().removeprefix("```json").removeprefix("```").removesuffix("```").strip()
    try:
        return Verdict.model_validate_json(bare)
    except ValidationError as error:
        raise ValueError(f"not the asked JSON: {answer[:80]!r}") from error


class Judge:
    """Grades conversations, at a steady pace."""

    def __init__(self, http: PatientHttp, model: str, settings: JudgeSettings) -> None:
        self._http = http
        self._model = model
        self._settings = settings
        self._next_start = 0.0

    async def grade_all(self, card: Card, played: Sequence[Played]) -> list[Judgement]:
        """A judgement for every conversation, in order."""
        return list(await asyncio.gather(*(self.grade(card, one) for one in played)))

    async def grade(self, card: Card, played: Played) -> Judgement:
        """Ask until the answer can be read, at most as often as the settings say."""
        failure = ""
        for _ in range(self._settings.attempts):
            await self._take_turn()
            try:
                verdict = parse(await self._ask(card, played))
            except (ArtistMindError, ValueError) as error:
                failure = str(error)
                continue
            return Judgement(item_id=played.item_id, score=verdict.score, reason=verdict.reason)
        return Judgement(item_id=played.item_id, failure=failure)

    async def _take_turn(self) -> None:
        """Wait for this request's place in the minute."""
        now = time.monotonic()
        start = max(now, self._next_start)
        self._next_start = start + 60 / self._settings.requests_per_minute
        await asyncio.sleep(start - now)

    async def _ask(self, card: Card, played: Played) -> str:
        body: dict[str, Any] = {
            "model": self._model,
            "messages": prompt(card, played),
            "temperature": 0,
            "max_tokens": 300,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "verdict", "strict": True, "schema": Verdict.model_json_schema()},
            },
        }
        answer = await self._http.call("POST", "/chat/completions", body)
        try:
            return str(answer["choices"][0]["message"]["content"])
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError("the answer holds no message") from error


def judge_http(settings: JudgeSettings, url: str) -> PatientHttp:
    """A client for the judge's endpoint; asking twice changes nothing there."""
    patience = Patience(retried=frozenset({408, 429, 500, 502, 503, 504}), longest_wait_s=60, repeat_timeouts=True)
    return PatientHttp(openai_base(url), settings.timeout_s, settings.key, patience)
