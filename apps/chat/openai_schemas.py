"""OpenAI's request bodies: what is supported, and what is refused by name."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from apps.chat.schemas import Identifier, Text
from core.contracts import Sampling
from core.errors import InvalidRequest, UnsupportedParameter
from personas.schema import Card

# Values under which an unsupported parameter changes nothing, so that clients that always send it still work.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1, None),
    "logprobs": (False, None),
    "top_logprobs": (0, None),
    "tools": ([], None),
    "tool_choice": ("none", None),
    "response_format": ({"type": "text"}, None),
    "modalities": (["text"], None),
    "logit_bias": ({}, None),
    "parallel_tool_calls": (True, False, None),
    "store": (False, None),
    "best_of": (1, None),
    "echo": (False, None),
    "suffix": (None, ""),
    "metadata": ({}, None),
}


def refuse_unsupported(extra: dict[str, Any] | None) -> None:
    """Raise for the first parameter that would be ignored silently."""
    for name, value in (extra or {}).items():
        if value not in _NEUTRAL.get(name, ()):
            raise UnsupportedParameter(f"the parameter '{name}' is not supported", name)


class TextPart(BaseModel):
    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")

    include_usage: bool = False


def _stops(value: str | list[str] | None) -> str | list[str] | None:
    if isinstance(value, list) and len(value) > 4:
        raise ValueError("takes at most 4 strings")
    if value is not None and any(not stop for stop in ([value] if isinstance(value, str) else value)):
        raise ValueError("must not hold an empty string")
    return value


class SamplingFields(BaseModel):
    """What both completion calls share. Parameters that are not named here end up in ``model_extra``."""

    model_config = ConfigDict(extra="allow")

    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1, le=4096)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    stop: Annotated[str | list[str] | None, AfterValidator(_stops)] = None
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    user: Identifier | None = None

    def sampling(self, card: Card, max_tokens: int | None) -> Sampling:
        """The request's values over the character's own."""
        stop = self.stop or []
        own = card.sampling
        return Sampling(
            max_tokens=max_tokens or own.max_tokens,
            temperature=own.temperature if self.temperature is None else self.temperature,
            top_p=own.top_p if self.top_p is None else self.top_p,
            seed=self.seed,
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
        )

    @property
    def include_usage(self) -> bool:
        if self.stream_options and not self.stream:
            raise InvalidRequest("stream_options goes with stream=true", "stream_options")
        return bool(self.stream_options and self.stream_options.include_usage)


class ChatCompletionBody(SamplingFields):
    messages: list[ChatMessage] = Field(min_length=1, max_length=200)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=4096)


class CompletionBody(SamplingFields):
    prompt: Text
