"""Builds a data set version: sources, stages on Ray Data, duplicates, mix, split, and the files of the version.

On one machine, with a small Ray of its own::

    python -m data_pipelines.build haneul

On a cluster, where ``ARTISTMIND_HOME`` names a directory that is kept::

    ray job submit --working-dir . -- python -m data_pipelines.build haneul
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from core.contracts import utc_now
from core.errors import ArtistMindError, ConfigurationError, Unprocessable
from core.logs import setup_logging
from core.provenance import code_revision, refuse_uploaded_copy
from core.settings import Settings, get_settings
from data_pipelines.config import BuildConfig, load_preset, parse_ratio
from data_pipelines.gather import EVALUATION, Confirm, Gathered, Gatherer
from data_pipelines.manifest import MANIFEST_NAME, DatasetManifest, SourceRecord
from data_pipelines.provenance import tool_versions
from data_pipelines.ray_data import connected, run_rows
from data_pipelines.report import Findings, data_card, quality_report, review_page, review_sample
from data_pipelines.row_stages import ORDER, Passage, StageSpec, speech_owner
from data_pipelines.rows import Kind, Row, canonical, content_hash
from data_pipelines.shards import write_split
from data_pipelines.sources.base import Collected
from data_pipelines.sources.grammar import Composer, composed, shipped_composer
from data_pipelines.stages.base import Dropped, StageCount, count_stages
from data_pipelines.stages.duplicates import without_duplicates
from data_pipelines.stages.mixing import Mixed, mix, preference
from data_pipelines.stages.speech import level_measure
from data_pipelines.stages.splitting import split
from data_pipelines.store import DatasetStore, dataset_store
from personas.loader import Persona, PersonaLibrary

GLOBAL_STAGES = ("duplicates", "mixing")


@dataclass(frozen=True)
class Result:
    """Where the version lies and what it holds."""

    folder: Path
    manifest: DatasetManifest


@dataclass
class _Filtered:
    """Rows that went through the row stages, each once."""

    passages: dict[str, Passage] = field(default_factory=dict)
    """By the id that the row came with."""

    unique: list[Row] = field(default_factory=list)
    duplicates: list[Dropped] = field(default_factory=list)

    @property
    def passed(self) -> list[Row]:
        """One row per content, those that people wrote first."""
        rows = {passage.row.id: passage.row for passage in self.passages.values() if passage.stage is None}
        return sorted(rows.values(), key=preference)

    def settle(self, threshold: float) -> None:
        self.unique, self.duplicates = without_duplicates(self.passed, threshold)


@dataclass(frozen=True)
class Build:
    """One checked build; :meth:`run` makes the version."""

    config: BuildConfig
    version: str
    settings: Settings
    store: DatasetStore
    persona: Persona
    composer: Composer
    confirm: Confirm

    def run(self) -> Result:
        """Build and write. Nothing is visible before everything is there."""
        gatherer = Gatherer(self.config, self.settings, self.persona, self.store, self.confirm)
        gathered = gatherer.gather()
        with connected(self.config.workers):
            filtered, grammar = self._filter(gathered)
        mixed = mix(filtered.unique, self.config.wanted(), self.config.ratio is not None, self.config.seed)
        self._check(mixed)
        sides = split(
            mixed.rows, self.config.validation_share, self.config.filters.split_similarity, self.config.seed
        )
        sources = [*gathered.sources, *([grammar] if grammar else [])]
        return self._write(gathered, sources, filtered, mixed, sides)

    @property
    def _spec(self) -> StageSpec:
        return StageSpec(
            character=self.config.character,
            filters=self.config.filters,
            cards_dir=self.settings.resolved(self.settings.cards_dir),
            evaluation_dir=self.settings.resolved(EVALUATION),
            base=self.settings.model_path(self.config.base_model),
        )

    def _filter(self, gathered: Gathered) -> tuple[_Filtered, Collected | None]:
        """All rows through the row stages; the grammar composes more until enough pass."""
        filtered = _Filtered()
        given = [row for source in gathered.sources for row in source.rows]
        grammar = self.config.sources.grammar
        if not grammar.enabled:
            self._pass(given, filtered)
            return filtered, None
        wanted = self.config.wanted()
        missing = _missing(wanted, given)
        asked: dict[Kind, int] = {}
        rows: dict[str, Row] = {}
        for _ in range(grammar.max_rounds):
            fresh = {row.id: row for row in self._compose(missing, asked) if row.id not in rows}
            rows |= fresh
            if not fresh and not given:
                break
            self._pass([*given, *fresh.values()], filtered)
            given = []
            missing = _missing(wanted, filtered.unique)
        return filtered, Collected("grammar", self.config.licence, list(rows.values()))

    def _compose(self, missing: Mapping[Kind, int], asked: dict[Kind, int]) -> list[Row]:
        """Enough of each kind that is missing, and at least twice what was asked for before."""
        rows: list[Row] = []
        for kind, count in sorted(missing.items()):
            before = asked.get(kind, 0)
            asked[kind] = max(before * 2, before + int(count * self.config.sources.grammar.oversample) + 1)
            rows += composed(self.composer, self.config.character, kind, asked[kind], self.config.seed)
        return rows

    def _pass(self, rows: Sequence[Row], filtered: _Filtered) -> None:
        new = {row.id: row for row in rows if row.id not in filtered.passages}
        passages = run_rows(list(new.values()), self._spec, self.config.workers)
        filtered.passages.update((passage.came_as, passage) for passage in passages)
        filtered.settle(self.config.filters.duplicate_similarity)

    def _check(self, mixed: Mixed) -> None:
        if not mixed.rows:
            raise Unprocessable(f"{self.config.character}: no row passed the filters; nothing was written")
        if mixed.shortfall and self.config.strict:
            missing = ", ".join(f"{count} of {kind}" for kind, count in mixed.shortfall.items())
            raise Unprocessable(f"{self.config.character}: short of {missing}; nothing was written (strict)")

    def _write(
        self,
        gathered: Gathered,
        sources: Sequence[Collected],
        filtered: _Filtered,
        mixed: Mixed,
        sides: dict[str, list[Row]],
    ) -> Result:
        found = self._findings(filtered, mixed, sides)
        with self.store.writing(self.config.character, self.version) as folder:
            records = {side: write_split(folder, side, rows) for side, rows in sides.items()}
            manifest = DatasetManifest(
                character=self.config.character,
                version=self.version,
                content_hash=content_hash(dict(sides)),
                splits=records,
                kinds=dict(sorted(Counter(row.kind for row in mixed.rows).items())),
                categories=_categories(mixed.rows),
                stages=tuple(_stage_counts(filtered, mixed)),
                shortfall=dict(mixed.shortfall),
                sources=tuple(_source_record(source, mixed.rows) for source in sources),
                licences=tuple(sorted({source.licence for source in sources if source.rows})),
                consents=tuple(sorted({row.consent_id for row in mixed.rows if row.consent_id})),
                parents=gathered.parents,
                code_revision=code_revision(),
                tools=tool_versions(self._spec.base),
                seed=self.config.seed,
                settings=_portable_settings(self.config),
                created_at=utc_now().isoformat(timespec="seconds"),
            )
            self._write_pages(folder, manifest, found)
            (folder / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        return Result(self.store.folder(manifest.name), manifest)

    def _findings(self, filtered: _Filtered, mixed: Mixed, sides: dict[str, list[Row]]) -> Findings:
        speech = self.persona.card.speech
        lost = [
            Dropped(passage.stage, passage.reason or "", passage.row)
            for passage in filtered.passages.values()
            if passage.stage is not None
        ]
        return Findings(
            splits=sides,
            dropped=[*lost, *filtered.duplicates, *mixed.dropped],
            levels=level_measure(speech.level),
            owner=speech_owner(PersonaLibrary(self._spec.cards_dir)),
            speech_level=speech.level,
            expected_speech=speech.ratio,
        )

    def _write_pages(self, folder: Path, manifest: DatasetManifest, found: Findings) -> None:
        sample = review_sample(found.rows, self.config.review_share, self.config.seed)
        lines = "".join(canonical(row) + "\n" for row in sample)
        (folder / "README.md").write_text(data_card(manifest), encoding="utf-8")
        (folder / "quality_report.md").write_text(quality_report(manifest, found), encoding="utf-8")
        (folder / "review_sample.jsonl").write_text(lines, encoding="utf-8")
        (folder / "review_sample.md").write_text(review_page(manifest.name, sample), encoding="utf-8")


def prepare(
    config: BuildConfig,
    settings: Settings,
    version: str | None = None,
    composer: Composer | None = None,
    confirm: Confirm = lambda estimate: False,
) -> Build:
    """Check everything that can be checked before work begins."""
    store = dataset_store(settings)
    refuse_uploaded_copy(store.root, "ARTISTMIND_HOME")
    chosen = version or store.next_version(config.character)
    store.refuse_existing(config.character, chosen)
    persona = PersonaLibrary(settings.resolved(settings.cards_dir)).get(config.character)
    return Build(config, chosen, settings, store, persona, composer or shipped_composer(), confirm)


def _missing(wanted: Mapping[Kind, int], rows: Sequence[Row]) -> dict[Kind, int]:
    """What the grammar still has to compose. Facts do not count: so many would leave nothing to it."""
    have = Counter(row.kind for row in rows if row.dataset_source != "facts")
    return {kind: count - have[kind] for kind, count in wanted.items() if count > have[kind]}


def _stage_counts(filtered: _Filtered, mixed: Mixed) -> list[StageCount]:
    passages = filtered.passages.values()
    lost = [Dropped(one.stage, one.reason or "", one.row) for one in passages if one.stage is not None]
    changed = Counter(stage for one in passages for stage in one.changed)
    counts = count_stages(ORDER, len(filtered.passages), lost, changed)
    # Masking can make two rows one: they are counted with the duplicates.
    merged = counts[-1].rows_out - len(filtered.passed)
    counts += count_stages(
        GLOBAL_STAGES, len(filtered.passed), [*filtered.duplicates, *mixed.dropped], Counter[str]()
    )
    if merged:
        first = counts[-2]
        counts[-2] = first.model_copy(
            update={"rows_in": first.rows_in + merged, "dropped": {**first.dropped, "the same once masked": merged}}
        )
    return counts


def _source_record(source: Collected, kept: Sequence[Row]) -> SourceRecord:
    taken = sum(1 for row in kept if row.dataset_source == source.source)
    return SourceRecord(
        source=source.source,
        licence=source.licence,
        rows_in=len(source.rows),
        rows_out=taken,
        files=source.files,
        skipped=dict(sorted(source.skipped.items())),
        note=source.note,
    )


def _categories(rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    found: dict[str, Counter[str]] = {}
    for row in rows:
        found.setdefault(row.kind, Counter())[row.category] += 1
    return {kind: dict(sorted(counts.items())) for kind, counts in sorted(found.items())}


def _portable_settings(config: BuildConfig) -> dict[str, object]:
    """The settings without places on this machine: of an absolute path the name only."""

    def portable(value: object) -> object:
        if isinstance(value, Path):
            return value.name if value.is_absolute() else value.as_posix()
        if isinstance(value, dict):
            return {key: portable(one) for key, one in value.items()}
        return [portable(one) for one in value] if isinstance(value, (list, tuple)) else value

    settings = portable(config.model_dump(exclude={"workers"}))
    assert isinstance(settings, dict)
    return settings


def describe(result: Result) -> str:
    """The result in a few lines."""
    manifest = result.manifest
    kinds = ", ".join(f"{kind} {count}" for kind, count in manifest.kinds.items())
    lines = [
        f"{manifest.name}: {manifest.rows} rows ({kinds})",
        f"content hash {manifest.content_hash}",
        str(result.folder),
    ]
    if manifest.shortfall:
        missing = ", ".join(f"{count} of {kind}" for kind, count in manifest.shortfall.items())
        lines.append(f"warning: short of {missing}: the sources do not give more that differ enough")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, build. 2: the settings are wrong and nothing was started; 1: the build failed."""
    parser = argparse.ArgumentParser(prog="python -m data_pipelines.build", description=__doc__.splitlines()[0])
    parser.add_argument("character")
    parser.add_argument("--ratio", help="persona:worldview:safety, such as 6:2:2")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--version", help="name of the version; default: the next free v<number>")
    parser.add_argument("--preset", type=Path, help="YAML file; default: data_pipelines/presets/<character>.yaml")
    parser.add_argument("--workers", type=int, help="processes that filter")
    parser.add_argument("--strict", action="store_true", help="fail when a count cannot be met")
    parser.add_argument("--yes", action="store_true", help="send requests that may cost money")
    options = parser.parse_args(arguments)
    try:
        result = run(options)
    except ArtistMindError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigurationError) else 1
    print(describe(result))
    return 0


def run(options: argparse.Namespace) -> Result:
    """Build what the options ask for."""
    settings = get_settings()
    setup_logging(settings)
    config = load_preset(
        options.character,
        {
            "ratio": parse_ratio(options.ratio) if options.ratio else None,
            "seed": options.seed,
            "workers": options.workers,
            "strict": options.strict or None,
        },
        options.preset,
    )
    return prepare(config, settings, options.version, confirm=announced(options.yes)).run()


def announced(agreed: bool) -> Confirm:
    """Prints an estimate before anything is sent, and says whether it may be."""

    def confirm(estimate: object) -> bool:
        print(estimate, file=sys.stderr)
        return agreed

    return confirm


if __name__ == "__main__":
    raise SystemExit(main())
