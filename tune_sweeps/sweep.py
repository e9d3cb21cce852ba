"""A sweep from its settings to its winner: plan, train, measure, choose, report; axis after axis."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from core.errors import ConfigurationError, Unprocessable
from core.logs import get_logger
from core.provenance import code_revision
from core.settings import Settings
from train_jobs.config import load_config
from train_jobs.qlora.config import QLoraConfig
from train_jobs.qlora.storage import write_text
from tune_sweeps.axes import ALL, check_own, check_packed, wanted_axes
from tune_sweeps.cluster import check_devices, connected
from tune_sweeps.config import SweepConfig
from tune_sweeps.plan import AxisPlan, load_training, plan_axis, sweep_folder
from tune_sweeps.report import (
    BEST,
    REPORT,
    candidates,
    report_page,
    summary_page,
    write_best,
    write_trials,
)
from tune_sweeps.score import choose

CLAIM = "sweep.json"
LOCK = "sweep.lock"
WINNER = "winner.txt"
COMMIT = "code_revision"
"""Kept in the claim and not compared: a sweep may go on after the code was mended."""

SAME_ORIGIN = ("dataset_hash", "base_revision", "tokenizer_revision")
"""Kept in the claim and compared: names alone may come to stand for other data and another base."""

MAY_CHANGE = frozenset(
    {
        "axes",
        "order",
        "rule",
        "served_by",
        "devices",
        "storage_path",
    }
)
"""Settings that a resumed sweep may have otherwise; the values of its own axis are in the names of the trials. Tune
goes on with what it began with in all that is its own: retries, trials at the same time, Weights & Biases."""


def run_sweep(asked: str, config: SweepConfig, settings: Settings, resume: bool) -> Path:
    """Run one axis or all of them; the path of the winning job's settings.

    Everything is checked before Ray is touched: also the later axes of ``all``, with the settings known by then.

    Raises:
        ConfigurationError: Something is wrong with the settings, or the sweep exists and is not to be resumed.
        Unprocessable: No trial of an axis that can win was finished.
    """
    from tune_sweeps.measure import check_character

    axes = wanted_axes(config, asked)
    check_packed(axes, config)
    check_own(axes, config)
    check_devices(config)
    training = load_training(config, settings)
    check_character(training.character)
    folder = sweep_folder(config, training, settings)
    check_axes(axes, config, training, folder, settings, resume)
    winners: dict[str, str] = {}
    with alone_in(folder), connected(config):
        for axis in axes:
            plan = plan_axis(axis, config, training, folder, settings)
            claim(plan)
            if not (plan.folder / BEST).is_file():
                run_axis(plan)
            training = load_config(QLoraConfig, plan.folder / BEST)
            winners[axis] = (plan.folder / WINNER).read_text(encoding="utf-8").strip()
    if asked != ALL:
        return folder / axes[0] / BEST
    (folder / REPORT).write_text(summary_page(f"Sweep {folder.name}", winners), encoding="utf-8")
    write_best(folder / BEST, f"winner of the sweep {folder.name} over {', '.join(winners)}", training)
    return folder / BEST


def check_axes(
    axes: Sequence[str], config: SweepConfig, training: QLoraConfig, folder: Path, settings: Settings, resume: bool
) -> None:
    """Check every axis, each with the winners that are known by now of those before it.

    Raises:
        ConfigurationError: A plan cannot be run, or an axis' folder is there and not to be gone on with like this.
    """
    for axis in axes:
        if (folder / axis).exists() and not resume:
            raise ConfigurationError(
                f"{folder / axis} is there: go on with --resume, give another name=…, or delete the folder"
            )
        plan = plan_axis(axis, config, training, folder, settings)
        check_claim(plan)
        if (plan.folder / BEST).is_file():
            training = load_config(QLoraConfig, plan.folder / BEST)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold the sweep's folder: two sweeps in it would write over each other's trials."""
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ConfigurationError(f"sweep {folder.name} is running: wait for it, or give another name=…") from error
    except OSError as error:
        raise ConfigurationError(f"storage_path: {folder} cannot be written ({error.strerror})") from error
    try:
        yield
    finally:
        lock.release()


def claim(plan: AxisPlan) -> None:
    """Take the folder for the plan's settings, or see that it is theirs."""
    path = plan.folder / CLAIM
    if path.is_file():
        check_claim(plan)
        return
    page = {**settings_of(plan), COMMIT: code_revision()}
    write_text(path, json.dumps(page, indent=2, ensure_ascii=False) + "\n")


def check_claim(plan: AxisPlan) -> None:
    """A folder belongs to one set of settings: going on with others would compare what cannot be compared."""
    path = plan.folder / CLAIM
    if not path.is_file():
        return
    mine, before = settings_of(plan), json.loads(path.read_text(encoding="utf-8"))
    before.pop(COMMIT, None)
    changed = sorted(key for key in mine.keys() | before.keys() if mine.get(key) != before.get(key))
    if changed:
        raise ConfigurationError(
            f"{plan.folder} was begun with other settings ({', '.join(changed)}): give another name=…, or delete it"
        )


def settings_of(plan: AxisPlan) -> dict[str, Any]:
    """What the result follows from, as JSON values."""
    settings = plan.config.model_dump(mode="json", exclude=set(MAY_CHANGE))
    training = {f"training.{key}": value for key, value in plan.training.model_dump(mode="json").items()}
    if plan.packed:  # Tune goes on with as many trials as it began with; each of them wants a slot
        settings["max_concurrent"] = plan.at_once
    return {**settings, **training, **origin_of(plan), "trials": [trial.name for trial in plan.trials]}


def origin_of(plan: AxisPlan) -> dict[str, list[str]]:
    """Which data, bases and tokenizers the trials have."""
    origins = [data.origin for data in plan.data.values() if data.origin]
    return {name: sorted({getattr(origin, name) for origin in origins}) for name in SAME_ORIGIN}


def run_axis(plan: AxisPlan) -> None:
    """Train, measure and choose; leaves the report, and ``best.yaml`` as the last file."""
    from tune_sweeps.measure import measure
    from tune_sweeps.plots import draw
    from tune_sweeps.tuning import ray_errors_named, train

    title = f"Sweep {plan.folder.parent.name}: {plan.axis}"
    with ray_errors_named():
        records = train(plan)
        write_trials(plan.folder, plan.trials, records)
        rivals = candidates(records, measure(plan, records))
    decision = choose(rivals, plan.config.rule) if any(not one.barred for one in rivals) else None
    pictures = draw(plan.folder, plan.axis, records)
    page = report_page(title, plan.axis, records, decision, plan.config.rule, pictures)
    (plan.folder / REPORT).write_text(page, encoding="utf-8")
    if decision is None:
        raise Unprocessable(f"{title}: no trial that can win was finished; see {plan.folder / REPORT}")
    best = next(point for point in plan.points if point.label == decision.best.value)
    get_logger("sweep").info("best", axis=plan.axis, value=best.label, loss=decision.best.loss)
    (plan.folder / WINNER).write_text(best.label + "\n", encoding="utf-8")
    write_best(plan.folder / BEST, f"winner of the sweep {plan.folder.parent.name} over {plan.axis}", best.job)
