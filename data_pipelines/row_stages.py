"""The row stages of one character in their order, and running a row through them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from data_pipelines.config import FilterConfig
from data_pipelines.rows import Row, canonical, parse
from data_pipelines.stages import decontaminate, leakage, rendering
from data_pipelines.stages.base import RowStage
from data_pipelines.stages.language import language
from data_pipelines.stages.personal_data import personal_data
from data_pipelines.stages.policy_rules import meta_talk, profanity
from data_pipelines.stages.repetition import repetition
from data_pipelines.stages.shape import shape
from data_pipelines.stages.speech import level_measure, speech
from personas.loader import PersonaLibrary
from personas.prompt import system_prompt
from safety.policy import DEFAULT, load_policies

ORDER = (
    "personal_data",
    "shape",
    "language",
    "meta_talk",
    "repetition",
    "profanity",
    "decontamination",
    "leakage",
    "speech",
    "rendering",
)


@dataclass(frozen=True)
class StageSpec:
    """All that the stages are built from; travels to Ray's workers."""

    character: str
    filters: FilterConfig
    cards_dir: Path
    evaluation_dir: Path
    base: str
    """Folder or hub name of the base model."""


@dataclass(frozen=True, slots=True)
class Passage:
    """Where a row's way through the stages ended."""

    came_as: str
    """The row's id before the first stage."""

    row: Row
    stage: str | None
    """The stage that dropped it; ``None``: it passed them all."""

    reason: str | None
    changed: tuple[str, ...]
    """Stages that gave it other words."""


def build_stages(spec: StageSpec) -> dict[str, RowStage]:
    """The stages by name, in their order. Loads the morphological analyser and the tokenizer."""
    library = PersonaLibrary(spec.cards_dir)
    persona = library.get(spec.character)
    policies = load_policies()
    policy = policies.get(spec.character, policies[DEFAULT])
    questions = decontaminate.index_questions(
        decontaminate.evaluation_questions(spec.evaluation_dir), spec.filters.decontaminate_chars
    )
    others = {other.id: other.card.display_name for other in library if other.id != spec.character}
    tokenizer = rendering.load_tokenizer(spec.base)
    prompt = system_prompt(persona.card)
    stages: dict[str, RowStage] = {
        "personal_data": personal_data(),
        "shape": shape(spec.filters),
        "language": language(spec.filters.languages or (persona.card.language,)),
        "meta_talk": meta_talk(policy, prompt),
        "repetition": repetition(),
        "profanity": profanity(policy),
        "decontamination": decontaminate.decontaminate(questions),
        "leakage": leakage.leakage(spec.character, others, speech_owner(library), spec.filters.leakage_certainty),
        "speech": speech(level_measure(persona.card.speech.level), spec.filters.min_speech_ratio),
        "rendering": rendering.rendering(tokenizer, prompt, spec.filters.max_tokens),
    }
    return {name: stages[name] for name in ORDER}


def speech_owner(library: PersonaLibrary) -> leakage.SpeechOwner | None:
    """The classifier of speech, trained on what was written by hand for each character: seeds and facts.

    Without the facts it would take a subject for a voice: characters of one group speak of the same songs.
    """
    from data_pipelines.sources.written import facts, seeds

    replies = {
        persona.id: [" ".join(row.texts("assistant")) for found in (seeds, facts) for row in found(persona, "").rows]
        for persona in library
    }
    return leakage.train_owner({name: list(dict.fromkeys(said)) for name, said in replies.items()})


def run_row(row: Row, stages: Mapping[str, RowStage]) -> Passage:
    """The row through all stages, or up to the one that drops it."""
    came_as, changed = row.id, list[str]()
    for name, stage in stages.items():
        try:
            outcome = stage(row)
        except TimeoutError:  # a pattern took too long: what could not be checked is not learned
            return Passage(came_as, row, name, "could not be checked in time", tuple(changed))
        if outcome.row is None:
            return Passage(came_as, row, name, outcome.reason, tuple(changed))
        if outcome.row.id != row.id:
            changed.append(name)
        row = outcome.row
    return Passage(came_as, row, None, None, tuple(changed))


@lru_cache(maxsize=1)
def process_stages(spec: StageSpec) -> dict[str, RowStage]:
    """The stages of this process: a worker keeps them from batch to batch.

    Raises:
        ConfigurationError: What the settings name is not there or does not parse.
    """
    return build_stages(spec)


def run_batch(batch: Mapping[str, Any], spec: StageSpec) -> dict[str, list[str]]:
    """The stages as ``map_batches`` wants them: canonical lines in, :func:`read_passage` reads what comes out."""
    stages = process_stages(spec)
    passages = [run_row(parse(str(line)), stages) for line in batch["row"]]
    return {
        "came_as": [passage.came_as for passage in passages],
        "row": [canonical(passage.row) for passage in passages],
        "stage": [passage.stage or "" for passage in passages],
        "reason": [passage.reason or "" for passage in passages],
        "changed": [" ".join(passage.changed) for passage in passages],
    }


def read_passage(record: Mapping[str, str]) -> Passage:
    """What :func:`run_batch` wrote, read back."""
    return Passage(
        came_as=record["came_as"],
        row=parse(record["row"]),
        stage=record["stage"] or None,
        reason=record["reason"] or None,
        changed=tuple(record["changed"].split()),
    )
