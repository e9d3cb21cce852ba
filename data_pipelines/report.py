"""What people read about a version: data card, quality report, review sample."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from data_pipelines.manifest import DatasetManifest
from data_pipelines.rows import READS_CONTEXT, Row
from data_pipelines.stages.base import Dropped
from data_pipelines.stages.leakage import SpeechOwner
from data_pipelines.stages.speech import MeasureLevels, own_share

EXAMPLES = 3
LEAKAGE_SHOWN = 20
SPEECH_ROWS = 300
LENGTH_BINS = (20, 40, 60, 80, 120, 200, 400)


@dataclass(frozen=True)
class Findings:
    """What the report is made from."""

    splits: Mapping[str, Sequence[Row]]
    dropped: Sequence[Dropped]
    levels: MeasureLevels
    owner: SpeechOwner | None
    speech_level: str
    expected_speech: float
    """The card's share of sentences in its level."""

    @property
    def rows(self) -> list[Row]:
        return sorted((row for rows in self.splits.values() for row in rows), key=lambda row: row.id)


def quality_report(manifest: DatasetManifest, found: Findings) -> str:
    """``quality_report.md``."""
    parts = [
        f"# Quality of {manifest.name}",
        "",
        *_stage_table(manifest),
        *_shortfall(manifest),
        *_kind_table(found),
        *_length_histogram(found.rows),
        *_speech_table(found),
        *_leakage_sample(found, manifest.character),
        *_dropped_examples(found.dropped),
    ]
    return "\n".join(parts) + "\n"


def data_card(manifest: DatasetManifest) -> str:
    """``README.md`` of the version."""
    sources = [
        f"| {one.source} | {one.rows_in} | {one.rows_out} | {one.licence} | {one.note or _counts(one.skipped)} |"
        for one in manifest.sources
    ]
    splits = ", ".join(f"{split} {record.rows}" for split, record in sorted(manifest.splits.items()))
    return "\n".join(
        [
            f"# Data set {manifest.name}",
            "",
            f"Conversations of `{manifest.character}` for fine-tuning: {manifest.rows} rows ({splits}).",
            "",
            f"- Content hash: `{manifest.content_hash}`",
            f"- Code: `{manifest.code_revision}`; seed {manifest.seed}; written {manifest.created_at}",
            f"- Built on: {', '.join(manifest.parents) or 'no other version'}",
            f"- Consents: {len(manifest.consents)} (ids in `manifest.json`)",
            f"- Licences: {'; '.join(manifest.licences)}",
            "",
            "| kind | rows | categories |",
            "|---|---|---|",
            *(
                f"| {kind} | {count} | {_counts(manifest.categories[kind])} |"
                for kind, count in manifest.kinds.items()
            ),
            "",
            "| source | rows given | rows taken | terms | note |",
            "|---|---|---|---|---|",
            *sources,
            "",
            "Rows hold no system prompt: training puts the character's before them. `{{user}}` is the fan's name.",
            f"Rows tagged `{READS_CONTEXT}` show retrieved context as a system message.",
            "",
            "Personal data is masked by rule and can slip through in spellings that no rule knows; composed rows are "
            "only as varied as their grammar. Read `quality_report.md` and `review_sample.md` before training on it.",
            "",
        ]
    )


def review_sample(rows: Sequence[Row], share: float, seed: int) -> list[Row]:
    """``share`` of the rows, drawn by hash: the same ones wherever the version is built."""
    ranked = sorted(rows, key=lambda row: hashlib.sha256(f"review\x00{seed}\x00{row.id}".encode()).hexdigest())
    return sorted(
        ranked[: -(-int(len(rows) * share * 1000) // 1000)], key=lambda row: (row.kind, row.category, row.id)
    )


def review_page(name: str, rows: Sequence[Row]) -> str:
    """The sample for people: tick what is fine, write down what is not."""
    parts = [f"# Review sample of {name}", "", f"{len(rows)} conversations.", ""]
    heading = ""
    for row in rows:
        if (wanted := f"## {row.kind}: {row.category}") != heading:
            heading = wanted
            parts += [heading, ""]
        parts += [f"- [ ] `{row.id}` ({row.dataset_source})", *_conversation(row), ""]
    return "\n".join(parts)


def _stage_table(manifest: DatasetManifest) -> list[str]:
    lines = ["## Stages", "", "| stage | in | out | changed | dropped, by reason |", "|---|---|---|---|---|"]
    lines += [
        f"| {one.stage} | {one.rows_in} | {one.rows_out} | {one.changed} | {_counts(one.dropped)} |"
        for one in manifest.stages
    ]
    return [*lines, ""]


def _shortfall(manifest: DatasetManifest) -> list[str]:
    if not manifest.shortfall:
        return []
    missing = ", ".join(f"{count} of {kind}" for kind, count in manifest.shortfall.items())
    return [f"**Short of what was wanted: {missing}.** More sources are needed for these.", ""]


def _kind_table(found: Findings) -> list[str]:
    counts = {split: Counter(row.kind for row in rows) for split, rows in found.splits.items()}
    kinds = sorted({kind for counter in counts.values() for kind in counter})
    tagged = Counter(row.kind for row in found.rows if READS_CONTEXT in row.style_tags)
    masked = sum(1 for row in found.rows if row.safety_flags)
    lines = [
        "## Rows",
        "",
        f"| kind | {' | '.join(counts)} | reading context |",
        "|---|" + "---|" * (len(counts) + 1),
    ]
    lines += [
        f"| {kind} | {' | '.join(str(counter[kind]) for counter in counts.values())} | {tagged[kind]} |"
        for kind in kinds
    ]
    return [*lines, "", f"{masked} rows with masked personal data.", ""]


def _length_histogram(rows: Sequence[Row]) -> list[str]:
    lengths = [len(reply) for row in rows for reply in row.texts("assistant")]
    bins = Counter(next((top for top in LENGTH_BINS if length <= top), 0) for length in lengths)
    lines = ["## Length of replies", "", "| characters | replies | |", "|---|---|---|"]
    for top in (*LENGTH_BINS, 0):
        bar = "█" * round(40 * bins[top] / max(1, len(lengths)))
        lines.append(f"| {f'up to {top}' if top else 'more'} | {bins[top]} | {bar} |")
    return [*lines, ""]


def _speech_table(found: Findings) -> list[str]:
    by_kind: dict[str, list[float]] = {}
    for row in review_sample(found.rows, min(1.0, SPEECH_ROWS / max(1, len(found.rows))), seed=0):
        share = own_share(row.texts("assistant"), found.levels)
        if share is not None:
            by_kind.setdefault(row.kind, []).append(share)
    lines = [
        "## Speech level",
        "",
        f"Share of reply sentences in `{found.speech_level}`, on a sample; the card: {found.expected_speech:.0%}.",
        "",
        "| kind | rows judged | mean share |",
        "|---|---|---|",
    ]
    lines += [f"| {kind} | {len(all_)} | {sum(all_) / len(all_):.0%} |" for kind, all_ in sorted(by_kind.items())]
    return [*lines, ""]


def _leakage_sample(found: Findings, character: str) -> list[str]:
    lines = ["## Leakage between characters", ""]
    if found.owner is None or character not in found.owner.characters:
        return [*lines, "Not judged: fewer than two characters have hand-written conversations.", ""]
    scored = []
    for row in review_sample(found.rows, min(1.0, SPEECH_ROWS / max(1, len(found.rows))), seed=1):
        said = " ".join(row.texts("assistant"))
        chances = found.owner.probabilities(said)
        scored.append((chances[character], row.id, max(chances, key=lambda name: chances[name]), said))
    scored.sort()
    lines += [
        f"The {LEAKAGE_SHOWN} replies of a sample of {len(scored)} that sound least like {character}. Read them.",
        "",
        "| own | sounds like | row | replies |",
        "|---|---|---|---|",
    ]
    lines += [f"| {own:.2f} | {like} | `{row}` | {_cell(said)} |" for own, row, like, said in scored[:LEAKAGE_SHOWN]]
    return [*lines, ""]


def _dropped_examples(dropped: Iterable[Dropped]) -> list[str]:
    """A few per stage and reason. What fans shared is not shown: it would be kept where no consent is listed."""
    shown: dict[tuple[str, str], list[Row]] = {}
    for one in sorted(dropped, key=lambda one: (one.stage, one.reason, one.row.id)):
        examples = shown.setdefault((one.stage, one.reason), [])
        if one.row.consent_id is None and len(examples) < EXAMPLES:
            examples.append(one.row)
    lines = ["## Examples of what was dropped", ""]
    for (stage, reason), rows in shown.items():
        if stage != "mixing" and rows:
            lines += [f"### {stage}: {reason}", "", *(line for row in rows for line in [*_conversation(row), ""])]
    return lines


def _conversation(row: Row) -> list[str]:
    return [f"    - {turn.role}: {_cell(turn.content)}" for turn in row.messages]


def _cell(text: str) -> str:
    return " / ".join(text.splitlines()).replace("|", "\\|")


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda one: (-one[1], one[0])))
