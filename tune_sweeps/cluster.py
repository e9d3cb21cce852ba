"""The Ray that a sweep runs on."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager

from train_jobs.qlora import ray_hook
from train_jobs.qlora.job import OBJECT_STORE_BYTES
from tune_sweeps.config import SweepConfig

TRIAL_CPUS = 0.01
"""CPU share of a trial that only asks its pack for the next steps."""

ENVIRONMENT = {
    # Paths of the settings are taken from the project's root, not from a trial's folder.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}


@contextmanager
def connected(config: SweepConfig) -> Iterator[None]:
    """Join the cluster that ``RAY_ADDRESS`` names (a submitted job has it set), or have a Ray for this sweep only."""
    import ray

    os.environ.update(ENVIRONMENT)
    if os.environ.get("RAY_ADDRESS"):
        ray.init(runtime_env={"env_vars": ENVIRONMENT})
    else:
        ray.init(
            address="local",
            num_cpus=local_cpus(config),
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
            runtime_env={"worker_process_setup_hook": ray_hook.HOOK, "env_vars": ENVIRONMENT},
        )
    try:
        yield
    finally:
        ray.shutdown()


def local_cpus(config: SweepConfig) -> int:
    """Cores that a Ray of our own says it has: those of the trials, and one for what only waits."""
    at_once = (config.max_concurrent or 1) if config.trainable == "solo" else 1
    return math.ceil(config.devices.cpus * at_once) + 1
