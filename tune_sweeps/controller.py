"""What runs in Tune's controller: ASHA, freeing slots of the pack, and showing trials to Weights & Biases.

Imports Ray Tune on top, so it is imported only when a sweep begins.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from typing import Any

import ray
from ray.air.integrations.wandb import WandbLoggerCallback
from ray.tune import Callback
from ray.tune.schedulers import ASHAScheduler

from core.logs import get_logger


class ResumableAsha(ASHAScheduler):
    """Ray's ASHA, which forgets everything when a sweep is resumed: here the trials bring their curves with them.

    Trials that cannot win have rungs of their own: they must not stop one that can.
    """

    def __init__(self, barred: Collection[str] = (), **settings: Any) -> None:
        """``barred``: names of the trials that cannot win."""
        super().__init__(**settings)
        self._barred = frozenset(barred)
        self._brackets.append(copy.deepcopy(self._brackets[0]))

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_add(tune_controller, trial)
        self._trial_info[trial.trial_id] = self._brackets[trial.config["trial"] in self._barred]
        for point in (trial.last_result or {}).get("curve", ()):
            self.on_trial_result(tune_controller, trial, point)  # what it decides was decided then


class FreeSlot(Callback):
    """Tells the pack that a trial is over, whatever ended it: its own end, ASHA, an error, a killed process."""

    def __init__(self, actor: str) -> None:
        self._actor = actor

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._release(trial)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._release(trial)

    def _release(self, trial: Any) -> None:
        try:
            ray.get_actor(self._actor).release.remote(trial.config["trial"])
        except ValueError:  # the pack's process is gone, and its slots with it
            get_logger("sweep").warning("the pack is gone", actor=self._actor)


class TrackTrials(WandbLoggerCallback):
    """Ray's logger, one run for each trial. Telemetry fails open: the sweep goes on without it."""

    def setup(self, *args: Any, **kwargs: Any) -> None:
        self._works = True
        self._try(super().setup, *args, **kwargs)

    def log_trial_start(self, trial: Any) -> None:
        self._try(super().log_trial_start, trial)

    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        self._try(super().log_trial_result, iteration, trial, result)

    def log_trial_end(self, trial: Any, failed: bool = False) -> None:
        self._try(super().log_trial_end, trial, failed)

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        self._try(super().on_experiment_end, trials, **info)

    def _try(self, call: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        if not self._works:
            return
        try:
            call(*args, **kwargs)
        except Exception as error:  # whatever the client raises, the sweep matters more
            self._works = False
            get_logger("sweep").warning("wandb_failed", error=type(error).__name__)
