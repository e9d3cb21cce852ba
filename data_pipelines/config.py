"""What a build is asked for: a preset (``presets/<character>.yaml``) with a command line's overrides."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from core.errors import ConfigurationError
from data_pipelines.rows import Kind

PRESETS_DIR = Path(__file__).parent / "presets"
RATIO_KINDS: tuple[Kind, ...] = ("persona", "worldview", "safety")
"""What the three numbers of ``--ratio`` stand for."""

VERSION = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GrammarSource(Strict):
    enabled: bool = True
    """Compose conversations offline."""

    oversample: float = Field(default=1.4, ge=1)
    """Conversations composed for each one that is wanted: filters and duplicates take some."""

    max_rounds: int = Field(default=4, ge=1)
    """How often more are composed for a kind that is still short."""


class FileSource(Strict):
    path: Path
    """JSON lines: rows of our schema, or ``{"messages": […]}``; relative to the project's root."""

    licence: str = Field(min_length=1)
    """Under what terms the conversations may be used."""

    kind: Kind = "persona"
    """Kind of the lines that name none."""

    category: str = "file"
    """Category of the lines that name none."""


class ChatLogSource(Strict):
    rows: Path
    """JSON lines of conversations, each with the ``consent_id`` under which it was collected."""

    consents: Path
    """JSON lines of consents: ``consent_id``, ``fan_id``, ``scope``, ``granted_at``, ``withdrawn_at``."""

    scope: str = "training"
    """What a consent must allow."""

    kind: Kind = "persona"
    """Kind of the lines that name none."""


class GeneratedSource(Strict):
    base_url: str | None = None
    """An OpenAI-compatible endpoint (``https://…/v1``); unset: the offline stand-in, for trying the pipeline out."""

    model: str = "offline"
    """Model that is asked."""

    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; the key itself is never written anywhere."""

    terms: str = "see the provider's terms of use"
    """Under what terms the replies may be used; goes into the manifest as their licence."""

    counts: dict[Kind, int] = {"persona": 100}
    """Conversations asked for, by kind."""

    per_request: int = Field(default=5, ge=1, le=50)
    """Conversations in one reply."""

    examples: int = Field(default=4, ge=1)
    """Hand-written conversations shown in each request."""

    queries_per_second: float = Field(default=2.0, gt=0)
    """Most requests begun in a second."""

    concurrency: int = Field(default=4, ge=1)
    """Requests under way at a time."""

    max_retries: int = Field(default=6, ge=0)
    """Attempts after the first one, with exponential backoff."""

    timeout_s: float = Field(default=120.0, gt=0)
    """How long one attempt may take."""

    max_tokens: int = Field(default=2048, ge=16)
    """Longest reply."""

    temperature: float = Field(default=1.0, ge=0, le=2)
    """How freely the model writes."""

    usd_per_million_in: float = Field(default=0.0, ge=0)
    """Price of a million prompt tokens, for the estimate."""

    usd_per_million_out: float = Field(default=0.0, ge=0)
    """Price of a million reply tokens, for the estimate."""


class SourcesConfig(Strict):
    seeds: bool = True
    """Hand-written conversations of the character's folder."""

    facts: bool = True
    """Questions and answers of the character's ``facts.yaml``."""

    grammar: GrammarSource = GrammarSource()
    """Conversations composed offline."""

    files: tuple[FileSource, ...] = ()
    """Conversations from elsewhere."""

    chat_logs: ChatLogSource | None = None
    """Conversations that fans agreed to share."""

    generated: GeneratedSource | None = None
    """Conversations written by a language model."""

    parents: tuple[str, ...] = ()
    """Versions (``haneul@v1``) whose rows are taken over."""


class FilterConfig(Strict):
    languages: tuple[str, ...] | None = None
    """Languages that the character may answer in; unset: the card's."""

    max_chars: int = Field(default=600, ge=1)
    """Longest message."""

    max_turns: int = Field(default=40, ge=2)
    """Most messages of a conversation."""

    min_reply_chars: int = Field(default=2, ge=1)
    """Shortest reply."""

    min_speech_ratio: float = Field(default=0.5, ge=0, le=1)
    """Share of a conversation's reply sentences that must be in the card's speech level."""

    duplicate_similarity: float = Field(default=0.85, gt=0, le=1)
    """Conversations at least this alike (Jaccard, character n-grams) are one."""

    split_similarity: float = Field(default=0.7, gt=0, le=1)
    """Conversations at least this alike stay on one side of the split."""

    leakage_certainty: float = Field(default=0.98, gt=0.5, le=1)
    """How sure the classifier must be that another character speaks."""

    decontaminate_chars: int = Field(default=16, ge=6)
    """A shared run of so many characters with an evaluation question drops a row."""

    max_tokens: int = Field(default=1024, ge=16)
    """Longest conversation, system prompt included, in the base model's tokens."""


class BuildConfig(Strict):
    """One data set version."""

    character: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")
    """Whose data set it is."""

    counts: dict[Kind, int]
    """Rows wanted, by kind."""

    ratio: tuple[int, int, int] | None = None
    """Persona : worldview : safety. Unset: the counts as they are."""

    seed: int = 0
    """Seed of composing, mixing, splitting and sampling."""

    validation_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of the conversations that is only measured on."""

    review_share: float = Field(default=0.1, ge=0, le=1)
    """Share that is written out for people to read."""

    base_model: str = "base"
    """Model whose tokenizer must be able to render every row."""

    licence: str = "Apache-2.0"
    """Of the character's own texts."""

    workers: int = Field(default=2, ge=1)
    """Processes that filter; plays no part in the result."""

    strict: bool = False
    """Fail when a count cannot be met; otherwise the shortfall is reported."""

    sources: SourcesConfig = SourcesConfig()
    filters: FilterConfig = FilterConfig()

    @field_validator("ratio")
    @classmethod
    def _ratio_is_of_something(cls, ratio: tuple[int, int, int] | None) -> tuple[int, int, int] | None:
        if ratio is not None and (min(ratio) < 0 or sum(ratio) == 0):
            raise ValueError("three numbers of 0 or more, not all 0, such as 6:2:2")
        return ratio

    def wanted(self) -> dict[Kind, int]:
        """Rows by kind; a ratio divides the sum of its three kinds anew."""
        if self.ratio is None:
            return dict(self.counts)
        total = sum(self.counts.get(kind, 0) for kind in RATIO_KINDS)
        shares = {kind: total * part // sum(self.ratio) for kind, part in zip(RATIO_KINDS, self.ratio, strict=True)}
        return {**self.counts, **shares}


OverrideValue = str | int | bool | tuple[int, int, int] | None


def load_preset(
    character: str, overrides: Mapping[str, OverrideValue] | None = None, path: Path | None = None
) -> BuildConfig:
    """The character's preset (or the file ``path``) with overrides that are not ``None``."""
    file = path or PRESETS_DIR / f"{character}.yaml"
    if not file.is_file():
        known = ", ".join(sorted(found.stem for found in PRESETS_DIR.glob("*.yaml")))
        raise ConfigurationError(f"{file}: there is no such preset; there are: {known}")
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    config = parse_config(_read(file) | given, str(file))
    if config.character != character:
        raise ConfigurationError(f"{file}: is for {config.character}, not for {character}")
    return config


def parse_config(values: dict[str, Any], place: str) -> BuildConfig:
    """A validated configuration; errors name the place and the field."""
    try:
        return BuildConfig.model_validate(values)
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise ConfigurationError(f"{place}: {found}") from error


def parse_ratio(text: str) -> tuple[int, int, int]:
    """``6:2:2`` as numbers."""
    parts = text.split(":")
    if len(parts) != 3 or not all(part.strip().isdigit() for part in parts):
        raise ConfigurationError(f"{text!r}: a ratio is written persona:worldview:safety, such as 6:2:2")
    first, second, third = (int(part) for part in parts)
    return first, second, third


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read ({error})") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigurationError(f"{path}: settings are written as `key: value` lines")
    return values
