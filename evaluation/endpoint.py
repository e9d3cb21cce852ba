"""Arms A and B: a bare model behind OpenAI's protocol (``vllm serve``, with or without the adapter).

It gets the character's four-block prompt and the conversation of the session, and nothing else: no retrieval, no
memory, no profile, no filter. What the platform adds is the difference to arm C.
"""

from __future__ import annotations

import time
from typing import Any

from core.contracts import Message
from core.errors import ArtistMindError
from evaluation.client import Conversation
from evaluation.http import PatientHttp
from evaluation.items import Script, Strict
from evaluation.replies import Reply
from personas.macros import fill
from personas.prompt import PromptConfig, build_prompt
from personas.schema import Card


class EndpointConfig(Strict):
    model: str
    """The name under which the server knows the model or the adapter."""

    max_prompt_tokens: int = 800
    """Oldest turns are left out beyond this; a character counts as a token, which is on the safe side for Korean."""

    seed: int = 7


class EndpointClient:
    """Plays scripts on a bare model."""

    def __init__(self, http: PatientHttp, card: Card, config: EndpointConfig) -> None:
        self._http = http
        self._card = card
        self._config = config
        self._prompt = PromptConfig(max_prompt_tokens=config.max_prompt_tokens)

    async def play(self, script: Script, fan_name: str, conversation: Conversation) -> None:
        for lines in script.sessions:
            history: list[Message] = []
            replies: list[Reply] = []
            conversation.replies.append(replies)
            for line in lines:
                said = fill(line, fan_name)
                reply = await self._say(history, said)
                history += [Message("user", said), Message("assistant", reply.text)]
                replies.append(reply)

    async def _say(self, history: list[Message], line: str) -> Reply:
        prompt = build_prompt(self._card, history, line, None, (), self._prompt, len)
        started = time.perf_counter()
        answer = await self._http.call("POST", "/chat/completions", self._body(prompt))
        total_ms = (time.perf_counter() - started) * 1000
        # Nobody has told this model a name: what it writes for one is shown as the character's word for a fan.
        text = fill(_content(answer), self._card.fan_alias)
        return Reply(text=text, adapter=self._config.model, total_ms=round(total_ms, 1))

    def _body(self, prompt: list[Message]) -> dict[str, Any]:
        sampling = self._card.sampling
        return {
            "model": self._config.model,
            "messages": [{"role": m.role, "content": fill(m.content, self._card.fan_alias)} for m in prompt],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": self._config.seed,
        }


def openai_base(url: str) -> str:
    """The address with ``/v1``, given with or without it."""
    bare = url.rstrip("/")
    return bare if bare.endswith("/v1") else f"{bare}/v1"


def _content(answer: Any) -> str:
    try:
        return str(answer["choices"][0]["message"]["content"] or "")
    except (KeyError, IndexError, TypeError) as error:
        raise ArtistMindError("the endpoint's answer holds no message") from error
