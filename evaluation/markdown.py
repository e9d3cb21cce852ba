"""Reports for people: one run, several side by side, a conversation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from evaluation.items import SetKind
from evaluation.report import WHOLE, Metric, Part, Report

MEANING: dict[str, str] = {
    "persona_kept": "items in which every rule held on every reply",
    "speech_level": "replies in the character's speech level",
    "speech_level_sentences": "sentences in the character's speech level",
    "emoji": "replies with none but the character's emoji, not too many",
    "own_habits_only": "replies without another character's turns of phrase",
    "no_meta_leak": "replies that do not show the machine",
    "language": "replies in a language of the character",
    "no_repetition": "replies without loops and repeats",
    "policy": "replies that the output filter lets pass",
    "says_something": "replies that are not empty",
    "calls_fan_by_name": "replies that call the fan by name (a rate, not a rule)",
    "not_blocked_needlessly": "harmless items that were not blocked",
    "attack_stopped": "attacks blocked or answered without harm",
    "blocked_by_filter": "attacks that the platform blocked (a rate: the model may refuse by itself)",
    "answer_in_character": "attacks answered in character",
    "recalled": "questions about the fan answered with what was told",
    "reply_language": "replies in the language asked for",
    "expected_words": "items with the expected words and none of the forbidden",
    "identity_held": "items in which language, words and character held",
    "answered": "answerable questions answered with the fact",
    "does_not_abstain": "answerable questions not turned away",
    "says_it_does_not_know": "unanswerable questions answered with not knowing",
    "document_retrieved": "questions whose document was among the sources",
    "answered_when_retrieved": "questions answered, of those whose document was found",
}
RULES_ONLY = "Rule metrics only: no judge was asked, nothing here is a judgement of quality by a reader or a model."


def report_text(report: Report) -> str:
    """The whole report of a run."""
    lines = [f"# Evaluation of {report.character}, arm {report.arm}", "", *_head(report), ""]
    for part in report.parts:
        lines += _part(part)
    return "\n".join(lines).rstrip() + "\n"


def comparison_text(reports: Sequence[Report]) -> str:
    """One table per set: metrics down, runs across."""
    names = [_run_name(report, reports) for report in reports]
    lines = ["# Comparison", ""]
    lines += [
        f"- **{name}**: {report.character}, {_who(report)}, {report.taken_at:%Y-%m-%d}, code `{report.code_revision}`"
        for name, report in zip(names, reports, strict=True)
    ]
    for kind in SetKind:
        parts = [report.part(kind) for report in reports]
        if any(parts):
            lines += ["", f"## {kind.value.capitalize()}", "", *_comparison(names, parts)]
    lines += ["", "Shares with 95 % Wilson intervals; n in brackets."]
    return "\n".join(lines) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    made = [f"| {' | '.join(map(_cell, row))} |" for row in rows]
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *made]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _head(report: Report) -> list[str]:
    rows = [
        ("asked", _who(report)),
        ("base model", report.base or "as deployed (not named)"),
        ("time", f"{report.taken_at:%Y-%m-%d %H:%M} UTC"),
        ("code", report.code_revision),
        *report.settings.items(),
    ]
    return [f"- {key}: {value}" for key, value in rows]


def _who(report: Report) -> str:
    what = f"model {report.model}" if report.model else "the running graph"
    return f"arm {report.arm}, {what} at {report.endpoint}"


def _part(part: Part) -> list[str]:
    adapters = ", ".join(f"{name} ({count})" for name, count in part.adapters.items())
    lines = [
        f"## {part.kind.value.capitalize()}",
        "",
        f"{part.items} items of `{part.set_file}` (sha256 {part.set_hash[:12]}), {part.replies} replies "
        f"({part.distinct_replies} distinct), answered by {adapters or 'nobody'}.",
        *_warnings(part),
        "",
        *_judge(part),
        "",
        *table(
            ["metric", "n", "value", "95 %", "target", "what it counts"],
            [_row(m) for m in part.metrics if m.group == WHOLE],
        ),
        "",
    ]
    groups = [m for m in part.metrics if m.group != WHOLE]
    if groups:
        lines += ["### By kind", ""]
        lines += [*table(["metric", "of", "n", "value", "95 %"], map(_group_row, _telling(groups))), ""]
    lines += [_latency(part), ""]
    return lines + _examples(part)


def _telling(groups: Sequence[Metric]) -> list[Metric]:
    """The main metrics under all heads, the others only where something broke."""
    main = {"persona_kept", "attack_stopped", "recalled", "identity_held", "answered", "says_it_does_not_know"}
    return [m for m in groups if m.name in main or m.passed < m.n]


def _warnings(part: Part) -> list[str]:
    lines = []
    if part.errors:
        lines.append(
            f"**{len(part.errors)} items could not be played** and are in no figure; the first: "
            f"{part.errors[0].item_id}: {part.errors[0].error}"
        )
    if part.degraded:
        lines.append("Replies given without: " + ", ".join(f"{k} ({n})" for k, n in part.degraded.items()))
    if part.notes:
        lines.append(f"{len(part.notes)} notes; the first: {part.notes[0]}")
    return ["", *lines] if lines else []


def _judge(part: Part) -> list[str]:
    judge = part.judge
    if judge is None:
        return [RULES_ONLY]
    if judge.mean is None:
        return [f"Judge {judge.model}: no readable verdict in {judge.failures} conversations."]
    return [
        f"Judge {judge.model}: mean {judge.mean:.2f} of 5 (95 % {judge.low:.2f} to {judge.high:.2f}), "
        f"{judge.in_character:.1%} at 4 or more, {judge.judged} judged, {judge.failures} without a readable verdict."
    ]


def _row(m: Metric) -> list[str]:
    target = ""
    if m.target is not None:
        target = f"≥ {m.target:.0%}: {'reached' if m.value >= m.target else 'missed'}"
    return [m.name, str(m.n), f"{m.value:.1%}", _interval(m), target, MEANING.get(m.name, "")]


def _group_row(m: Metric) -> list[str]:
    return [m.name, m.group, str(m.n), f"{m.value:.1%}", _interval(m)]


def _interval(m: Metric) -> str:
    return f"{m.low:.1%} to {m.high:.1%}"


def _latency(part: Part) -> str:
    figures = part.latency.model_dump()
    shown = [f"{name} {value:,.0f} ms" for name, value in figures.items() if value is not None]
    return "Time per reply: " + (", ".join(shown) or "not measured")


def _examples(part: Part) -> list[str]:
    if not part.worst:
        return []
    lines = ["### Worst examples", ""]
    for example in part.worst:
        lines.append(f"**{example.item_id}**: {'; '.join(example.broken)}")
        lines.append("")
        lines += [
            line for asked, reply in zip(example.asked, example.replies, strict=False) for line in _said(asked, reply)
        ]
    return lines


def _said(asked: str, reply: str) -> list[str]:
    return [f"> fan: {' '.join(asked.split())}  ", f"> character: {' '.join(reply.split())}", ""]


def _run_name(report: Report, reports: Sequence[Report]) -> str:
    same = [one for one in reports if one.arm == report.arm]
    if len(same) == 1:
        return report.arm
    return f"{report.arm}{same.index(report) + 1}"


def _comparison(names: Sequence[str], parts: Sequence[Part | None]) -> list[str]:
    if len({part.set_hash for part in parts if part}) > 1 or len({part.items for part in parts if part}) > 1:
        warning = ["**These runs did not ask the same items.**", ""]
    else:
        warning = []
    metrics = dict.fromkeys(m.name for part in parts if part for m in part.metrics if m.group == WHOLE)
    rows = [[name, *(_compared(part.metric(name) if part else None) for part in parts)] for name in metrics]
    if any(part and part.judge for part in parts):
        rows.append(["judge, mean of 5", *(_judged(part) for part in parts)])
    rows.append(["mean time per reply", *(_time(part) for part in parts)])
    return warning + table(["metric", *names], rows)


def _compared(metric: Metric | None) -> str:
    return f"{metric.value:.1%} ({_interval(metric)}) [{metric.n}]" if metric else "–"


def _judged(part: Part | None) -> str:
    judge = part.judge if part else None
    return f"{judge.mean:.2f} [{judge.judged}, {judge.model}]" if judge and judge.mean is not None else "–"


def _time(part: Part | None) -> str:
    return f"{part.latency.mean:,.0f} ms" if part and part.latency.mean is not None else "–"
