"""What a sweep leaves: ``report.md``, ``trials.jsonl`` and ``best.yaml``. Pure but for writing the files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import yaml

from train_jobs.qlora.config import QLoraConfig
from tune_sweeps.config import Rule
from tune_sweeps.records import Measurement, Trial, TrialRecord
from tune_sweeps.score import Candidate, Decision, Share, Standing

BEST, REPORT, TRIALS = "best.yaml", "report.md", "trials.jsonl"


def candidates(records: Sequence[TrialRecord], measured: Mapping[str, Measurement]) -> list[Candidate]:
    """Configurations with at least one measured trial, in the order of the axis' values.

    Counts of the seeds are added up, memory is the highest and time the mean.
    """
    found = []
    for order, value in enumerate(dict.fromkeys(one.value for one in records)):
        own = [one for one in records if one.value == value and one.name in measured and one.status == "finished"]
        if not own:
            continue
        results = [measured[one.name] for one in own]
        found.append(
            Candidate(
                value=value,
                order=order,
                losses={one.seed: result.losses for one, result in zip(own, results, strict=True)},
                speech=Share(sum(r.sentences_kept for r in results), sum(r.sentences_judged for r in results)),
                persona=Share(sum(r.replies_kept for r in results), sum(len(r.replies) for r in results)),
                memory_mib=max(one.memory_mib or 0.0 for one in own),
                seconds=fmean(one.seconds for one in own),
                barred=own[0].barred,
            )
        )
    return found


def write_trials(folder: Path, trials: Sequence[Trial], records: Sequence[TrialRecord]) -> None:
    """One line for each trial: what came of it, and the settings it was trained with."""
    configs = {trial.name: trial.config.model_dump(mode="json") for trial in trials}
    lines = [
        json.dumps({**one.model_dump(mode="json"), "config": configs[one.name]}, ensure_ascii=False) + "\n"
        for one in records
    ]
    (folder / TRIALS).write_text("".join(lines), encoding="utf-8")


def write_best(path: Path, title: str, job: QLoraConfig) -> None:
    """The whole job as the final job takes it. Written last of all: it says that the axis is done."""
    values = job.model_copy(update={"run_name": None, "version": None}).model_dump(mode="json")
    text = f"# Purpose:  {title}\n# Command:  python -m train_jobs.qlora --config {BEST}\n"
    part = path.with_suffix(".part")
    part.write_text(text + yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")
    part.rename(path)


def report_page(
    title: str,
    axis: str,
    records: Sequence[TrialRecord],
    decision: Decision | None,
    rule: Rule,
    pictures: Sequence[str],
) -> str:
    """The page for people; everything that the choice follows from is in its first table."""
    parts = [f"# {title}", ""]
    if decision is None:
        parts += ["**No trial that can win was finished and measured: nothing was chosen.**", ""]
    else:
        parts += [
            f"**Best: {axis} = {decision.best.value}.** {why(decision)}",
            "",
            *_standings(axis, decision),
            "",
        ]
        parts += [*_rule(decision, rule), ""]
    parts += ["## Trials", "", *_trials(records), ""]
    if axis == "rank":
        parts += ["## Rank against memory", "", *_rank_memory(records), ""]
    parts += [line for name in pictures for line in (f"![{name}]({name})", "")]
    return "\n".join(parts)


def why(decision: Decision) -> str:
    """The choice in one or two sentences."""
    best, leader = decision.best, decision.leader
    tied = [one.candidate.value for one in decision.standings if one.tied and one.candidate.value != best.value]
    if sum(not one.candidate.barred and not one.short for one in decision.standings) == 1:
        return "It is the only one that can win and has a finished trial."
    if not tied:
        return "It has the lowest loss of those that passed the gates, by more than the margin."
    others = f"{', '.join(tied)} {'is' if len(tied) == 1 else 'are'} within the margin"
    if best is leader:
        return f"It has the lowest loss; {others} and takes no less memory and time."
    return f"{leader.value} has the lowest loss; {others}, and of the tied it takes the least memory, then time."


def _standings(axis: str, decision: Decision) -> list[str]:
    head = f"| {axis} | loss, bits/char | behind | ± | speech level | breaks no rule | memory, MiB | minutes | |"
    return [
        head,
        "|---|--:|--:|--:|--:|--:|--:|--:|---|",
        *(_line(one, decision) for one in decision.standings),
    ]


def _line(one: Standing, decision: Decision) -> str:
    own = one.candidate
    place = _place(one, decision)
    numbers = f"{own.loss:.4f} | {one.behind:.4f} | {one.error:.4f} | {_shown(own.speech)} | {_shown(own.persona)}"
    return f"| {own.value} | {numbers} | {own.memory_mib:.0f} | {own.seconds / 60:.1f} | {own.barred or place} |"


def _shown(share: Share) -> str:
    return f"{share.value:.1%} ({share.kept}/{share.of})"


def _place(one: Standing, decision: Decision) -> str:
    if one.short:
        return "fewer seeds finished"
    if one.candidate is decision.best:
        return "**best**"
    return "tied" if one.tied else "behind" if one.passed else "out"


def _rule(decision: Decision, rule: Rule) -> list[str]:
    return [
        "How it was chosen (`tune_sweeps/score.py`), from the table above:",
        "",
        f"1. Out is who keeps the speech level in less than {decision.speech_gate:.1%} of the sentences, or breaks "
        f"no rule in less than {decision.persona_gate:.1%} of the replies: the best share minus the slack "
        f"({rule.speech_slack:.1%}, {rule.persona_slack:.1%}), or minus {rule.gate_errors:g} standard errors of a "
        "difference between two shares where that is more.",
        f"2. {decision.leader.value} has the lowest loss of the rest. `behind` is the loss minus its loss, `±` the "
        "standard error of that difference over the same conversations.",
        f"3. The margin is {decision.margin:.4f}: {rule.tie_errors:g} × the root mean square of `±` over the rest "
        "but the leader. Within it least memory wins, then least time, then loss.",
        *(f"{place}. {sentence}" for place, sentence in enumerate(_left_out(decision), start=4)),
        "",
        "Losses are of held-out conversations on the base in 16 bits; replies are to held-out prompts, judged by the "
        "rules of `evaluation`. Its sets play no part: they are kept for judging what was chosen.",
    ]


def _left_out(decision: Decision) -> list[str]:
    """Who had no part in the choice."""
    found = []
    if any(one.candidate.barred for one in decision.standings):
        found.append("What is not servable has no part in all of this.")
    if any(one.short for one in decision.standings):
        found.append("Who finished fewer seeds than others has no part in it.")
    return found


def _trials(records: Sequence[TrialRecord]) -> list[str]:
    return [
        "| trial | came to | last validation loss | minutes | |",
        "|---|--:|--:|--:|---|",
        *(_trial(one) for one in records),
    ]


def _trial(one: TrialRecord) -> str:
    last = one.curve[-1] if one.curve else None
    ends = {"failed": f"failed: {one.reason}", "stopped": "stopped by ASHA", "finished": ""}
    said = "; ".join(filter(None, (ends[one.status], one.barred)))
    came, loss = (f"{last.progress:.0f} %", f"{last.validation_loss:.4f}") if last else ("0 %", "–")
    return f"| {one.name} | {came} | {loss} | {one.seconds / 60:.1f} | {said.replace('|', '¦')} |"


def _rank_memory(records: Sequence[TrialRecord]) -> list[str]:
    highest: dict[str, float] = {}
    for one in records:
        if one.memory_mib is not None:
            highest[one.value] = max(highest.get(one.value, 0.0), one.memory_mib)
    return [
        "| rank | memory, MiB |",
        "|--:|--:|",
        *(f"| {rank} | {mib:.1f} |" for rank, mib in highest.items()),
    ]


def summary_page(title: str, winners: Mapping[str, str]) -> str:
    """The page of a sweep over several axes: the winner of each, in their order."""
    lines = [f"| {axis} | {value} | [report]({axis}/{REPORT}) |" for axis, value in winners.items()]
    head = [
        "Each axis was swept with the winners of those above it.",
        "",
        "| axis | best | |",
        "|---|---|---|",
    ]
    return "\n".join([f"# {title}", "", *head, *lines, ""])
