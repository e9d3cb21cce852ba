"""Ray Tune's part: one run of the trials of an axis, begun or gone on with, and what came of each."""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.errors import ArtistMindError
from core.logs import get_logger
from train_jobs.reference.output import swap_in
from tune_sweeps.cluster import TRIAL_CPUS
from tune_sweeps.history import WHOLE
from tune_sweeps.pack_server import PackServer
from tune_sweeps.packed import packed_trial
from tune_sweeps.plan import AxisPlan
from tune_sweeps.records import CurvePoint, Trial, TrialRecord
from tune_sweeps.solo import solo_trial

KEPT = 2
"""Checkpoints of each trial, the newest ones."""

RUN = "tune"
"""Folder of Tune's own state below the axis'."""

REASON_CHARS = 300
OWN_ERROR = re.compile(r"^core\.errors\.\w+: ")
"""What Ray puts before the words of our own errors, which need no more."""


def train(plan: AxisPlan) -> list[TrialRecord]:
    """Run the trials that are not over yet, in the order of the plan. Ray must be connected."""
    from ray import tune

    trials = {trial.name: trial for trial in plan.trials}
    if plan.config.wandb_mode != "disabled":
        os.environ["WANDB_MODE"] = plan.config.wandb_mode  # Ray's logger asks for a key unless this says offline
    with trainable(plan, trials) as run:
        folder = plan.folder / RUN
        if tune.Tuner.can_restore(str(folder)) and any(folder.glob("experiment_state-*.json")):
            get_logger("sweep").info("going on", axis=plan.axis)
            tuner = tune.Tuner.restore(str(folder), trainable=run, resume_errored=True)
            for result in tuner.get_results():
                mend(result.checkpoint)
        else:
            tuner = make_tuner(plan, run)
        results = {trial_of(result): result for result in tuner.fit()}
    return [record(trial, results[trial.name]) for trial in plan.trials]


def trial_of(result: Any) -> str:
    """The trial that a result is of, by its folder: one that died before its first report has no ``config``."""
    return Path(result.path).name


def mend(checkpoint: Any | None) -> None:
    """Make a checkpoint that Tune's state names whole again.

    Tune deletes an old checkpoint before the state on disk names the next one: a sweep killed in between could not be
    resumed. What lies beside it and is newer is as good, and the oldest of those was written to its end.
    """
    if checkpoint is None:
        return
    named = Path(checkpoint.path)
    newer = sorted(path for path in named.parent.glob("checkpoint_*") if path.is_dir() and path.name > named.name)
    if newer and (len(newer) >= KEPT or not named.is_dir()):
        with swap_in(named) as whole:  # a kill in between leaves nothing half copied under the name
            shutil.copytree(newer[0], whole, dirs_exist_ok=True)
        get_logger("sweep").warning("checkpoint was gone", trial=named.parent.name, instead=newer[0].name)


@contextmanager
def trainable(plan: AxisPlan, trials: dict[str, Trial]) -> Iterator[Any]:
    """What Tune runs for each trial; while it does, the pack is there."""
    from ray import tune

    config, every = plan.config, plan.config.checkpoint_every
    if not plan.packed:
        solo = tune.with_parameters(solo_trial, trials=trials, data=plan.data, every=every)
        resources = {
            "CPU": config.devices.cpus,
            **({"GPU": config.devices.gpus} if config.devices.gpus else {}),
        }
        yield tune.with_resources(solo, resources)
        return
    with pack_server(plan, trials):
        packed = tune.with_parameters(
            packed_trial,
            actor=actor_name(plan),
            trials=trials,
            data=plan.data,
            memory_mib=plan.adapter_mib,
            every=every,
        )
        yield tune.with_resources(packed, {"CPU": TRIAL_CPUS})


@contextmanager
def pack_server(plan: AxisPlan, trials: dict[str, Trial]) -> Iterator[None]:
    """The pack's actor, under a name that trials and callbacks know."""
    import ray

    devices = plan.config.devices
    actor = ray.remote(PackServer).options(
        name=actor_name(plan), num_cpus=devices.cpus, num_gpus=devices.gpus, max_concurrency=64
    )
    highest = max(trial.config.rank for trial in plan.trials)
    pack = plan.config.pack.model_copy(update={"slots": plan.at_once})
    server = actor.remote(plan.trials[0].config, pack, highest, trials, plan.data)
    try:
        ray.get(server.held.remote())  # a base that cannot be loaded ends the sweep here, with its own words
        yield
        # Without the pack its trials failed, whatever they are worth: nothing must be chosen among the others.
        ray.get(server.held.remote())
    finally:
        ray.kill(server)


def actor_name(plan: AxisPlan) -> str:
    return f"pack-{plan.folder.parent.name}-{plan.axis}"


def make_tuner(plan: AxisPlan, run: Any) -> Any:
    """Every value with every seed, compared by ASHA."""
    from ray import tune

    config = plan.config
    return tune.Tuner(
        run,
        param_space={"trial": tune.grid_search([trial.name for trial in plan.trials])},
        tune_config=tune.TuneConfig(
            metric=config.asha.metric,
            mode="min",
            scheduler=scheduler(plan),
            max_concurrent_trials=plan.at_once,
            trial_name_creator=trial_name,
            trial_dirname_creator=trial_name,
        ),
        run_config=tune.RunConfig(
            name=RUN,
            storage_path=str(plan.folder),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=KEPT),
            failure_config=tune.FailureConfig(max_failures=config.max_failures),
            callbacks=callbacks(plan),
            verbose=0,
        ),
    )


def scheduler(plan: AxisPlan) -> Any:
    """ASHA over the share of a trial's steps: values may have different numbers of steps.

    The last report is no rung: who came so far is finished.
    """
    from ray.tune.schedulers import FIFOScheduler

    from tune_sweeps.controller import ResumableAsha

    asha = plan.config.asha
    if not asha.enabled:
        return FIFOScheduler()
    return ResumableAsha(
        barred=[trial.name for trial in plan.trials if trial.barred],
        time_attr="progress",
        max_t=math.nextafter(WHOLE, 0),
        grace_period=asha.grace,
        reduction_factor=asha.reduction_factor,
        stop_last_trials=False,
    )


def callbacks(plan: AxisPlan) -> list[Any]:
    """Tune's own file of results, without which it warns at the end; the pack's slots; Weights & Biases."""
    from ray.tune.logger import JsonLoggerCallback

    from tune_sweeps.controller import FreeSlot, TrackTrials

    config = plan.config
    found: list[Any] = [JsonLoggerCallback()]
    if plan.packed:
        found.append(FreeSlot(actor_name(plan)))
    if config.wandb_mode != "disabled":
        group = f"{plan.folder.parent.name}-{plan.axis}"
        options = {"mode": config.wandb_mode, "dir": str(plan.folder)}
        if config.wandb_mode == "online":
            options["resume"] = "allow"
        found.append(TrackTrials(project=config.wandb_project, group=group, excludes=["curve"], **options))
    return found


def trial_name(trial: Any) -> str:
    """Names without a time stamp: a resumed sweep finds its folders again."""
    name: str = trial.config["trial"]
    return name


def record(trial: Trial, result: Any) -> TrialRecord:
    """What Tune knows of a trial, in the sweep's terms."""
    metrics = result.metrics or {}
    done = metrics.get("progress", 0) >= WHOLE and result.checkpoint is not None
    return TrialRecord(
        name=trial.name,
        value=trial.value,
        seed=trial.seed,
        status="failed" if result.error else "finished" if done else "stopped",
        reason=reason(result.error) if result.error else "",
        barred=trial.barred,
        curve=tuple(CurvePoint.model_validate(point) for point in metrics.get("curve", ())),
        adapter=result.checkpoint.path if result.checkpoint else None,
    )


def reason(error: BaseException) -> str:
    """The last line of what a trial raised: earlier ones are Ray's and the traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return OWN_ERROR.sub("", lines[-1] if lines else type(error).__name__)[:REASON_CHARS]


@contextmanager
def ray_errors_named() -> Iterator[None]:
    """Turn what Ray raises, with the traceback of another process in it, into one line."""
    from ray.exceptions import RayError
    from ray.tune import TuneError

    try:
        yield
    except (RayError, TuneError) as error:
        raise ArtistMindError(f"the sweep failed: {reason(error)}; --resume goes on with it") from error
