"""What Ray's processes do first in a run that has a Ray of its own. Imports nothing heavy: all of them run it."""

from __future__ import annotations

import logging
import os

HOOK = "train_jobs.qlora.ray_hook.stay_with_this_ray"
CLEANER = "ray.train.v2._internal.execution.controller.placement_group_cleaner"


def stay_with_this_ray() -> None:
    """Name this Ray to whatever looks for one, and silence the complaints about its missing dashboard.

    A Train actor asks the state API every second whether the run still lives. Without an address it would look
    at all Rays of the machine, such as the one that serves.
    """
    import ray

    os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    logging.getLogger(CLEANER).setLevel(logging.ERROR)
