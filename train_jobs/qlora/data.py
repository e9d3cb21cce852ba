"""Conversations for fine-tuning: read, checked, hashed and split. Pure but for reading the file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from core.contracts import Role
from core.errors import ConfigurationError
from core.settings import Settings
from data_pipelines.grammar.composer import Composer, row_rng
from data_pipelines.grammar.voices import card_folder, character_voice
from data_pipelines.store import open_version
from personas.loader import load_card
from personas.prompt import system_prompt
from train_jobs.qlora.config import QLoraConfig

IGNORED = -100
"""Label of a token that the loss leaves out."""

Messages = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class EncodedRow:
    """A conversation as tokens; ``labels`` holds the assistant's tokens and ``IGNORED`` elsewhere."""

    messages: Messages
    input_ids: list[int]
    labels: list[int]


@dataclass(frozen=True, slots=True)
class Split:
    """Encoded conversations to learn from and to measure on, and how many were too long."""

    train: tuple[EncodedRow, ...]
    validation: tuple[EncodedRow, ...]
    too_long: int


def read_rows(path: Path) -> list[Messages]:
    """The conversations of a JSON lines file; the first bad line is named."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror})") from error
    return [_row(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]


def _row(line: str, place: str) -> Messages:
    try:
        messages = json.loads(line)["messages"]
        found = [{"role": item["role"], "content": item["content"]} for item in messages]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f'{place}: not a {{"messages": [{{"role", "content"}}]}} object') from error
    if not found or found[-1]["role"] != "assistant":
        raise ConfigurationError(f"{place}: the last message must be the assistant's")
    if any(item["role"] not in get_args(Role) or not isinstance(item["content"], str) for item in found):
        raise ConfigurationError(f"{place}: a role is not one of {', '.join(get_args(Role))}, or a content no text")
    return found


@dataclass(frozen=True, slots=True)
class Conversations:
    """What a run learns from, before it is encoded."""

    train: list[Messages]
    validation: list[Messages]
    name: str
    """A data set version, a file, or the command that composes the same."""

    digest: str
    """Hash of the content."""


def load_conversations(config: QLoraConfig, settings: Settings) -> Conversations:
    """The conversations that the settings name, divided into what is learned and what is measured on.

    Raises:
        ConfigurationError: There is no such version or file, or it is another character's.
    """
    data = config.data
    if data.version:
        return _of_version(data.version, config.character, settings)
    rows = read_rows(settings.resolved(data.path)) if data.path else _composed(config)
    train, validation = split_rows(rows, config.validation_share, config.seed)
    command = f"python -m train_jobs.reference dialogues --character {config.character}"
    name = data.path.name if data.path else f"{command} --count {data.count} --seed {data.seed}"
    return Conversations(train, validation, name, rows_hash(rows))


def _composed(config: QLoraConfig) -> list[Messages]:
    return composed_rows(config.character, config.data.count, config.data.seed)


def _of_version(name: str, character: str, settings: Settings) -> Conversations:
    """A version's own two sides, each conversation led by the card's system prompt as serving builds it."""
    dataset = open_version(name, settings)
    owner = dataset.manifest.character
    if owner != character:
        raise ConfigurationError(f"data.version: {name} is a data set of {owner}, not of {character}")
    system = {"role": "system", "content": system_prompt(load_card(card_folder(character) / "card.yaml"))}

    def side(split: str) -> list[Messages]:
        rows = dataset.rows(split)
        return [[system, *({"role": turn.role, "content": turn.content} for turn in row.messages)] for row in rows]

    return Conversations(side("train"), side("validation"), name, dataset.manifest.content_hash)


def composed_rows(character: str, count: int, seed: int) -> list[Messages]:
    """Conversations composed from the character's folder."""
    composer = Composer(character_voice(character))
    return [composer.dialogue(row_rng(seed, character, index)).row()["messages"] for index in range(count)]


def held_out_prompts(character: str, count: int) -> list[Messages]:
    """Prompts that no composed conversation holds."""
    dialogues = Composer(character_voice(character)).validation(row_rng(0, f"{character}-held-out", 0), count)
    return [dialogue.row()["messages"][:-1] for dialogue in dialogues]


def rows_hash(rows: Sequence[Messages]) -> str:
    """SHA-256 of the conversations as canonical JSON."""
    return hashlib.sha256(_canonical(rows).encode()).hexdigest()


def _canonical(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def split_rows(rows: Sequence[Messages], share: float, seed: int) -> tuple[list[Messages], list[Messages]]:
    """Training and validation conversations; one that occurs twice stays on one side.

    Each conversation is placed by its own hash, so adding some never moves the others.
    """
    sides: tuple[list[Messages], list[Messages]] = ([], [])
    for row in rows:
        digest = hashlib.sha256(f"{seed}\x00{_canonical(row)}".encode()).digest()
        sides[int.from_bytes(digest[:8], "big") < share * 2**64].append(row)
    return sides


def training_template(tokenizer: Any) -> str:
    """The tokenizer's chat template with marks around what the assistant says."""
    template = tokenizer.chat_template
    if isinstance(template, str) and "generation" in template and "endgeneration" in template:
        return template
    from trl.chat_template_utils import get_training_chat_template

    try:
        return get_training_chat_template(tokenizer) or template
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigurationError("the base's chat template has no {% generation %} marks: add them") from error


def encode(tokenizer: Any, template: str, messages: Messages) -> EncodedRow:
    """Tokens and labels; refuses a conversation from which the model would not learn to answer or to stop."""
    encoded: Mapping[str, list[int]] = tokenizer.apply_chat_template(
        messages, chat_template=template, return_dict=True, return_assistant_tokens_mask=True
    )
    input_ids, mask = list(encoded["input_ids"]), list(encoded["assistant_masks"])
    check_mask(input_ids, mask, tokenizer.eos_token_id, turns=sum(item["role"] == "assistant" for item in messages))
    labels = [token if learned else IGNORED for token, learned in zip(input_ids, mask, strict=True)]
    return EncodedRow(messages, input_ids, labels)


def check_mask(input_ids: Sequence[int], mask: Sequence[int], end_of_turn: int, turns: int = 1) -> None:
    """Every run of learned tokens must end with the end-of-turn token, and each of the assistant's turns has one."""
    ends = [
        position
        for position, learned in enumerate(mask)
        if learned and (position + 1 == len(mask) or not mask[position + 1])
    ]
    if not ends:
        raise ConfigurationError("a conversation has no assistant token to learn: check the chat template's marks")
    if len(ends) < turns:
        raise ConfigurationError(
            f"only {len(ends)} of {turns} assistant turns are marked as learned: check the chat template's marks"
        )
    if any(input_ids[position] != end_of_turn for position in ends):
        raise ConfigurationError("the end-of-turn token is outside the chat template's {% generation %} marks")


def _encode_all(tokenizer: Any, template: str, conversations: Sequence[Messages]) -> list[EncodedRow]:
    rows: list[EncodedRow] = []
    for index, messages in enumerate(conversations):
        try:
            rows.append(encode(tokenizer, template, messages))
        except ConfigurationError as error:
            raise ConfigurationError(f"data: conversation {index}: {error}") from error
    return rows


def prepare_split(tokenizer: Any, found: Conversations, max_length: int) -> Split:
    """Encode and check the conversations; too long ones are counted and left out."""
    template = training_template(tokenizer)
    sides = [_encode_all(tokenizer, template, side) for side in (found.train, found.validation)]
    train, validation = (tuple(row for row in side if len(row.input_ids) <= max_length) for side in sides)
    total = len(found.train) + len(found.validation)
    if not train or not validation:
        raise ConfigurationError(
            f"data: {total} conversations leave {len(train)} to learn and {len(validation)} to measure "
            f"(max_length {max_length}): give more or shorter ones"
        )
    return Split(train, validation, too_long=total - len(train) - len(validation))
