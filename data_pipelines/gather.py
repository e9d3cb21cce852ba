"""All sources of a build together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from core.errors import ConfigurationError
from core.settings import Settings
from data_pipelines.config import BuildConfig, FileSource, SourcesConfig
from data_pipelines.sources import files, generated, written
from data_pipelines.sources.base import Collected, file_hash
from data_pipelines.sources.chat_logs import chat_logs, read_consents
from data_pipelines.sources.language_model import ReplyCache
from data_pipelines.stages.decontaminate import evaluation_files, refuse_evaluation_source
from data_pipelines.store import DatasetStore
from personas.loader import Persona

EVALUATION = Path("evaluation")
CACHE = "generated_replies"

Confirm = Callable[[generated.Estimate], bool]
"""Asked before anything is sent to an endpoint."""


@dataclass(frozen=True)
class Gathered:
    """What all sources but the grammar gave."""

    sources: list[Collected]
    parents: dict[str, str]
    """Versions taken over → their content hash."""


@dataclass(frozen=True)
class Gatherer:
    """Reads the sources that a configuration names."""

    config: BuildConfig
    settings: Settings
    persona: Persona
    store: DatasetStore
    confirm: Confirm

    @property
    def _wanted(self) -> SourcesConfig:
        return self.config.sources

    def gather(self) -> Gathered:
        """Every source that is asked for, in a fixed order."""
        licence = self.config.licence
        seeds = written.seeds(self.persona, licence)
        sources = [seeds] if self._wanted.seeds else []
        if self._wanted.facts:
            sources.append(written.facts(self.persona, licence))
        sources += [self._file(source) for source in self._wanted.files]
        if self._wanted.chat_logs:
            sources.append(self._chat_logs())
        if self._wanted.generated:
            sources.append(self._generated(seeds))
        parents = {}
        for name in self._wanted.parents:
            parent = self.store.open(name)
            if parent.manifest.character != self.config.character:
                raise ConfigurationError(f"parents: {name} is another character's; data sets are kept apart")
            rows = [row for split in parent.manifest.splits for row in parent.rows(split)]
            terms = ", ".join(parent.manifest.licences)
            sources.append(files.from_parent(name, terms, rows, self._has_live_consent()))
            parents[name] = parent.manifest.content_hash
        return Gathered(sources, parents)

    def _file(self, source: FileSource) -> Collected:
        return files.read_file(source, self._allowed(source.path), self.config.character, self._has_live_consent())

    def _chat_logs(self) -> Collected:
        source = self._wanted.chat_logs
        assert source is not None
        consents = self.settings.resolved(source.consents)
        return chat_logs(source, self._allowed(source.rows), consents, self.config.character)

    def _generated(self, seeds: Collected) -> Collected:
        source = self._wanted.generated
        assert source is not None
        plan = generated.plan(source, self.persona.card, seeds.rows, self.config.seed)
        cache = ReplyCache(self.settings.home_dir / CACHE)
        estimate = plan.estimate(cache)
        if source.base_url and estimate.requests and not self.confirm(estimate):
            raise ConfigurationError(f"{estimate}; nothing was sent: say --yes to send it")
        return plan.run(cache)

    def _has_live_consent(self) -> files.HasLiveConsent:
        """By the consents file; without one no consent is known to be live."""
        source = self._wanted.chat_logs
        if source is None:
            return lambda consent_id: False
        consents = read_consents(self.settings.resolved(source.consents))
        return lambda consent_id: consents.live(consent_id, source.scope) is not None

    def _allowed(self, path: Path) -> Path:
        """The path as a source, unless it is an evaluation's file or a copy of one."""
        found = self.settings.resolved(path)
        evaluation = self.settings.resolved(EVALUATION)
        refuse_evaluation_source(found, evaluation)
        if not found.is_file():
            raise ConfigurationError(f"{found}: there is no such file")
        if file_hash(found) in {file_hash(one) for one in evaluation_files(evaluation)}:
            raise ConfigurationError(f"{found}: is a copy of a file of the evaluation; it must never be trained on")
        return found
