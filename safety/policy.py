"""Policies: what is forbidden, for everybody and per character. Read once, from YAML, and strictly."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import regex
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from core.errors import ConfigurationError
from safety.pii import PiiKind
from safety.rules import CompiledRule

POLICIES_DIR = Path(__file__).parent / "policies"
DEFAULT = "default"

Side = Literal["input", "output"]
Level = Literal["banmal", "haeyo", "hapsyo", "teinei", "tameguchi"]
Category = Literal[
    "abuse",
    "sexual",
    "demeaning",
    "personal_data",
    "jailbreak",
    "self_harm",
    "dangerous",
    "forbidden_topic",
    "meta_leak",
    "control_token",
]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rule(_Strict):
    id: str = Field(pattern=r"^[a-z0-9-]+$")
    """Unique name; shown in verdicts and used by a character's ``disable``."""

    category: Category
    """Why the text is blocked; picks the character's alternative answer."""

    sides: tuple[Side, ...] = ("input",)
    """Where the rule is used: what fans write, what the character says, or both."""

    patterns: tuple[str, ...] = Field(min_length=1)
    """Regular expressions over the canonical form: lower case, one space at most, no fillers."""

    unless: tuple[str, ...] = ()
    """Benign phrases: a pattern does not strike inside one of them."""

    @field_validator("patterns", "unless")
    @classmethod
    def _can_match(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            if re.search(r"[A-Z]", re.sub(r"\\.", "", pattern)):
                raise ValueError(f"{pattern!r} holds capitals: write it in lower case, as the matched text is")
            _check_syntax(pattern)
        return patterns

    def compiled(self) -> CompiledRule:
        return CompiledRule(self.id, self.category, self.patterns, self.unless)


class SpeechPolicy(_Strict):
    level: Level
    """The speech level the character keeps."""

    min_ratio: float = Field(default=0.5, ge=0, le=1)
    """Below this share of its language's sentences in ``level`` a whole reply counts as out of persona."""

    min_sentences: int = Field(default=2, ge=1)
    """Replies with fewer classified sentences are not judged."""

    mode: Literal["off", "report", "block"] = "report"
    """``report`` notes the shift in an allowed verdict; ``block`` withholds what is still held back."""


class PolicyFile(_Strict):
    """One file of the policy folder: the default, or a character's additions to it."""

    rules: tuple[Rule, ...] = ()
    """Rules of this file, after those of the default policy."""

    disable: tuple[str, ...] = ()
    """Ids of default rules that do not hold for this character."""

    pii_in_input: tuple[PiiKind, ...] | None = None
    """Personal data a fan may not send; unset: as in the default policy."""

    pii_in_output: tuple[PiiKind, ...] | None = None
    """Personal data the character never says; unset: as in the default policy."""

    speech: SpeechPolicy | None = None
    """The character's speech level; unset: not watched."""


class Policy(_Strict):
    """What holds for one character, resolved."""

    persona: str
    rules: tuple[Rule, ...]
    pii_in_input: tuple[PiiKind, ...]
    pii_in_output: tuple[PiiKind, ...]
    speech: SpeechPolicy | None = None

    def compiled(self, side: Side) -> tuple[CompiledRule, ...]:
        return tuple(rule.compiled() for rule in self.rules if side in rule.sides)


def load_policies(folder: Path = POLICIES_DIR) -> dict[str, Policy]:
    """All policies of ``folder`` by character; ``default`` is the one for characters without a file."""
    base_path = folder / f"{DEFAULT}.yaml"
    if not base_path.is_file():
        raise ConfigurationError(f"{base_path}: missing; without a default policy nothing may be said. Restore it.")
    base = _read(base_path)
    policies = {DEFAULT: _resolve(base_path, base, PolicyFile())}
    for path in sorted(folder.glob("*.yaml")):
        if path.stem != DEFAULT:
            policies[path.stem] = _resolve(path, base, _read(path))
    return policies


def _resolve(path: Path, base: PolicyFile, own: PolicyFile) -> Policy:
    known = {rule.id for rule in base.rules}
    if unknown := set(own.disable) - known:
        raise ConfigurationError(
            f"{path}: disable: no default rule is called {', '.join(sorted(unknown))}. Remove it or fix the id."
        )
    rules = tuple(rule for rule in base.rules if rule.id not in own.disable) + own.rules
    ids = [rule.id for rule in rules]
    if twice := {rule_id for rule_id in ids if ids.count(rule_id) > 1}:
        raise ConfigurationError(f"{path}: rules: {', '.join(sorted(twice))} stands twice. Rename one of them.")
    return Policy(
        persona=path.stem,
        rules=rules,
        pii_in_input=_first_set(own.pii_in_input, base.pii_in_input),
        pii_in_output=_first_set(own.pii_in_output, base.pii_in_output),
        speech=own.speech or base.speech,
    )


def _first_set(*choices: tuple[PiiKind, ...] | None) -> tuple[PiiKind, ...]:
    return next((choice for choice in choices if choice is not None), ())


def _read(path: Path) -> PolicyFile:
    try:
        data: Any = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: not valid YAML ({error}). Fix the syntax.") from error
    try:
        return PolicyFile.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "(top level)"
        raise ConfigurationError(
            f"{path}: {field}: {first['msg']}. Correct this field or remove it.", param=field
        ) from error


def _check_syntax(pattern: str) -> None:
    try:
        compiled = regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"{pattern!r} is no regular expression ({error})") from error
    if compiled.search(""):
        raise ValueError(f"{pattern!r} matches the empty text and would block everything")
