"""One run: sets → replies → scores → report. What the command calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import Field

from core.errors import ConfigurationError
from core.provenance import code_revision
from evaluation.characters import Character, load_character
from evaluation.client import Arm, GraphClient, Target
from evaluation.endpoint import EndpointClient, EndpointConfig, openai_base
from evaluation.http import PatientHttp
from evaluation.items import Item, SetKind, Strict, load_items, set_path
from evaluation.judge import Judge, Judgement, JudgeSettings, judge_http
from evaluation.knowledge import cards_dir, documents_of
from evaluation.markdown import report_text
from evaluation.replies import Played
from evaluation.report import Part, Report, build_part
from evaluation.runner import Journal, play_all
from evaluation.scores import Scorer
from evaluation.vocabulary import training_vocabulary
from personas.loader import PersonaLibrary
from safety.output_filter import OutputConfig, OutputRules
from safety.policy import DEFAULT, load_policies
from safety.speech_level import shared


class SuiteConfig(Strict):
    """What a run is told."""

    character: str
    kinds: tuple[SetKind, ...]
    arm: Arm = "C"
    """C: the running graph. A, B: a bare model without and with its adapter, behind OpenAI's protocol."""

    endpoint: str
    model: str | None = None
    """Its name on the endpoint; for arms A and B."""

    base: str | None = None
    """The base model, for the report: over HTTP it cannot be seen."""

    set_file: Path | None = None
    """In place of the character's own set; for one kind only."""

    limit: int | None = Field(default=None, ge=1)
    """The first so many items of each set."""

    out: Path = Path("outputs/eval")
    """Replies, report and Markdown are written here."""

    resume: bool = False
    """Keep the replies that a run with this ``out`` has got already."""

    concurrency: int = Field(default=4, ge=1, le=256)
    """Conversations at a time."""

    timeout_s: float = Field(default=120, gt=0)
    """For one reply."""

    memory_wait_s: float = Field(default=30, ge=0)
    """How long an ended session's memory is waited for."""

    api_key: str | None = Field(default=None, repr=False)
    """For a graph or an endpoint that asks for one."""

    judge: JudgeSettings = JudgeSettings(url=None, model=None)
    """Who grades conversations of the persona set; without an address nobody does."""


Progress = Callable[[SetKind, int, int], None]


async def run(config: SuiteConfig, progress: Progress | None = None) -> Report:
    """Play, score and report the sets; the report is also written to ``config.out``."""
    _check(config)
    library = PersonaLibrary(cards_dir())
    character = load_character(config.character, library)
    scorer = make_scorer(character)
    items = {kind: _items(config, kind) for kind in config.kinds}  # all of them, before the first is played
    async with open_target(config, character) as target:
        parts = [await _part(config, kind, items[kind], target, scorer, progress) for kind in config.kinds]
    report = Report(
        character=config.character,
        arm=config.arm,
        endpoint=config.endpoint,
        model=config.model,
        base=config.base,
        code_revision=code_revision(),
        settings=_shown(config, character),
        parts=tuple(parts),
    )
    write(report, config.out)
    return report


def write(report: Report, out: Path) -> None:
    """``report.json`` and ``report.md``."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (out / "report.md").write_text(report_text(report), encoding="utf-8")


def kinds_of(character: str) -> tuple[SetKind, ...]:
    """The sets that a character has."""
    return tuple(kind for kind in SetKind if set_path(character, kind).is_file())


def make_scorer(character: Character) -> Scorer:
    """The rules of a character, with everything they read."""
    policies = load_policies()
    return Scorer(
        character=character,
        classifier=shared(),
        policy=OutputRules(policies.get(character.id, policies[DEFAULT]), OutputConfig()),
        vocabulary=training_vocabulary(character.id),
        titles={name: document.title for name, document in documents_of(character.id).items()},
    )


@asynccontextmanager
async def open_target(config: SuiteConfig, character: Character) -> AsyncIterator[Target]:
    """Whoever is asked."""
    base = config.endpoint if config.arm == "C" else openai_base(config.endpoint)
    async with PatientHttp(base, config.timeout_s, config.api_key) as http:
        if config.arm == "C":
            yield GraphClient(http, config.character, config.memory_wait_s)
        else:
            assert config.model is not None, "checked before"
            yield EndpointClient(http, character.card, EndpointConfig(model=config.model))


def _check(config: SuiteConfig) -> None:
    if not config.kinds:
        raise ConfigurationError(f"{config.character} has no set; see evaluation/sets/README.md")
    if config.arm != "C" and not config.model:
        raise ConfigurationError(f"arm {config.arm} needs --model: the model's name on the endpoint")
    if config.set_file and len(config.kinds) > 1:
        raise ConfigurationError("--set goes with one kind of set")
    if config.judge.url and not config.judge.model:
        raise ConfigurationError("a judge needs a name: --judge-model or ARTISTMIND_JUDGE_MODEL")


def _items(config: SuiteConfig, kind: SetKind) -> list[Item]:
    return load_items(_set_file(config, kind), kind)[: config.limit]


def _set_file(config: SuiteConfig, kind: SetKind) -> Path:
    return config.set_file or set_path(config.character, kind)


async def _part(
    config: SuiteConfig,
    kind: SetKind,
    items: Sequence[Item],
    target: Target,
    scorer: Scorer,
    progress: Progress | None,
) -> Part:
    journal = Journal(config.out / f"{kind}.replies.jsonl")
    if not config.resume:
        journal.start_over()
    ended = 0

    def tell(_: Played) -> None:
        nonlocal ended
        ended += 1
        if progress:
            progress(kind, ended, len(items))

    played = await play_all(items, target, scorer.character, config.concurrency, journal, tell)
    whole = [(item, one) for item, one in zip(items, played, strict=True) if one.error is None]
    scores = [score for item, one in whole for score in scorer.score(item, one)]
    judged = kind is SetKind.PERSONA and config.judge.url is not None
    judgements = await _judge(config.judge, scorer.character, [one for _, one in whole]) if judged else []
    if judgements:
        lines = "".join(one.model_dump_json() + "\n" for one in judgements)
        (config.out / f"{kind}.judgements.jsonl").write_text(lines, encoding="utf-8")
    judge_model = config.judge.model if judged else None
    return build_part(kind, _set_file(config, kind), played, scores, judgements, judge_model)


async def _judge(settings: JudgeSettings, character: Character, played: Sequence[Played]) -> list[Judgement]:
    assert settings.url is not None, "asked only with an address"
    assert settings.model is not None, "checked before"
    async with judge_http(settings, settings.url) as http:
        return await Judge(http, settings.model, settings).grade_all(character.card, played)


def _shown(config: SuiteConfig, character: Character) -> dict[str, str]:
    sampling = character.card.sampling
    return {
        "sampling": f"temperature {sampling.temperature}, top_p {sampling.top_p}, {sampling.max_tokens} tokens",
        "conversations at a time": str(config.concurrency),
        "limit": str(config.limit or "none"),
        "judge": config.judge.model if config.judge.url and config.judge.model else "none (rules only)",
    }


def run_blocking(config: SuiteConfig, progress: Progress | None = None) -> Report:
    """:func:`run` for callers without an event loop."""
    return asyncio.run(run(config, progress))
