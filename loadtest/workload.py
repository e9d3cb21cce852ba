"""What is sent: fans' messages, each only once, and the character's prompt as the graph builds it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from core.errors import ConfigurationError

MESSAGES_FILE = Path(__file__).with_name("messages.txt")
FAN_NAMES = ("서윤", "민호", "지우", "하준", "유나", "도현", "소희", "태오", "가은", "준서", "예린", "시우")


def load_messages(path: Path = MESSAGES_FILE) -> list[str]:
    """One message per line, blank lines left out."""
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


class MessageSource:
    """Deals out messages that were not sent before, so that a prefix cache finds the character and no more.

    Once all lines are used it goes on with pairs of them, each pair once.
    """

    def __init__(self, messages: list[str]) -> None:
        self._messages = messages
        self._next = 0

    def take(self, count: int) -> list[str]:
        """The next ``count`` messages."""
        taken = [self._message(i) for i in range(self._next, self._next + count)]
        self._next += count
        return taken

    def _message(self, index: int) -> str:
        size = len(self._messages)
        lap, place = divmod(index, size)
        if lap >= size:
            raise ConfigurationError(
                f"{index} distinct messages are more than {size} lines give: send fewer requests"
            )
        first = self._messages[place]
        # Never the same line twice in one message, and never the same pair in two laps.
        return first if lap == 0 else f"{first}. {self._messages[(place + lap) % size]}"


@dataclass(frozen=True, slots=True)
class Character:
    """The parts of a card that the comparison needs."""

    persona: str
    system: str
    temperature: float
    top_p: float


def load_character(cards_dir: Path, persona: str) -> Character:
    """Read ``card.yaml`` as the HTTP client that this is, without the platform's own loader.

    Raises:
        ConfigurationError: There is no such card, or it lacks a field.
    """
    path = cards_dir / persona / "card.yaml"
    try:
        card = yaml.safe_load(path.read_text(encoding="utf-8"))
        prompt, sampling = card["prompt"], card["sampling"]
        # The same shape as the platform's system message: character, line break, safety rules.
        system = f"{prompt['persona'].strip()}\n{prompt['safety'].strip()}"
        return Character(persona, system, float(sampling["temperature"]), float(sampling["top_p"]))
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"{path}: cannot be used ({error!r}); name another --persona") from error


def bare_messages(character: Character, message: str) -> list[dict[str, str]]:
    """The prompt that the graph builds for a fan it knows nothing about."""
    return [{"role": "system", "content": character.system}, {"role": "user", "content": message}]


def completion_body(model: str, messages: list[dict[str, str]], sampling: dict[str, Any]) -> dict[str, Any]:
    """The same request for either server but for the model's name and who writes the system message."""
    return {
        "model": model,
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
        **sampling,
    }
