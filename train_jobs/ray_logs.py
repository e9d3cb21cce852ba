"""What Ray's own processes may print on a machine without its dashboard. Imports nothing heavy: all of them run it."""

from __future__ import annotations

import logging

HOOK = "train_jobs.ray_logs.quiet"
CLEANER = "ray.train.v2._internal.execution.controller.placement_group_cleaner"


def quiet() -> None:
    """Silence a Train actor that complains every second when the dashboard's state API is not there."""
    logging.getLogger(CLEANER).setLevel(logging.ERROR)
