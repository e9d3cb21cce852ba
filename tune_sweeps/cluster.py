"""The Ray that a sweep runs on."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager

from core.errors import ConfigurationError
from core.logs import get_logger
from train_jobs.qlora import ray_hook
from train_jobs.qlora.job import OBJECT_STORE_BYTES, join_cluster
from train_jobs.qlora.preflight import gpus_gib
from tune_sweeps.config import SweepConfig

TRIAL_CPUS = 0.01
"""CPU share of a trial that only asks its pack for the next steps."""

ENVIRONMENT = {
    # Paths of the settings are taken from the project's root, not from a trial's folder.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Tune would take Ctrl-C as an ordinary end of all trials, and the sweep would choose among what was done by then.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}


@contextmanager
def connected(config: SweepConfig) -> Iterator[None]:
    """Join the cluster that ``RAY_ADDRESS`` names (a submitted job has it set), or have a Ray for this sweep only."""
    import ray

    os.environ.update(ENVIRONMENT)
    if os.environ.get("RAY_ADDRESS"):
        join_cluster(runtime_env={"env_vars": ENVIRONMENT})
        found = ray.cluster_resources().get("GPU", 0)
        if found < config.devices.gpus:  # the cluster may be about to start nodes
            get_logger("sweep").warning("waiting for GPUs", wanted=config.devices.gpus, found=found)
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


def check_devices(config: SweepConfig) -> None:
    """On one machine Ray would wait for ever for a GPU that is not there; a cluster may start nodes.

    Raises:
        ConfigurationError: The trials ask for a GPU and this machine has none.
    """
    if config.devices.gpus and not os.environ.get("RAY_ADDRESS") and not gpus_gib():
        raise ConfigurationError(
            "devices.gpus: this machine has no GPU: set devices.gpus=0, or submit the job to a cluster"
        )
