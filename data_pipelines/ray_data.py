"""Ray's part of a build: joining or starting a cluster, and sending rows through the stages."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from core.errors import SetupError, Unavailable
from data_pipelines.row_stages import Passage, StageSpec, process_stages, read_passage, run_batch
from data_pipelines.rows import Row, canonical

OBJECT_STORE_BYTES = 128 * 1024**2
BATCH_ROWS = 64

START_ATTEMPTS = 3


@contextmanager
def connected(workers: int) -> Iterator[None]:
    """Join the cluster that ``RAY_ADDRESS`` names (a submitted job has it set), or have a small Ray of our own."""
    import ray

    if ray.is_initialized():
        yield
        return
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False)
    else:
        _start(workers)
    try:
        yield
    finally:
        ray.shutdown()


def _start(workers: int) -> None:
    """A Ray for this build only. On a busy machine its processes can miss each other: then once more."""
    import ray

    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            ray.init(
                address="local",
                num_cpus=workers,
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="error",
            )
            return
        except Exception as error:  # Ray raises just that when its own processes do not come up in time
            ray.shutdown()
            if attempt == START_ATTEMPTS:
                raise SetupError(f"Ray did not start ({error}); is the machine busy? Build again") from error


def run_rows(rows: Sequence[Row], spec: StageSpec, workers: int) -> list[Passage]:
    """All rows through the stages. A worker that dies is replaced and its batch done again.

    Raises:
        ConfigurationError: The settings do not fit; found here, because Ray hands a worker's errors on as text.
        Unavailable: Ray cannot go on; nothing has been written.
    """
    if not rows:
        return []
    process_stages(spec)
    import ray
    from ray.exceptions import RayError

    _quiet()
    ordered = sorted(rows, key=lambda row: row.id)
    blocks = max(1, min(len(ordered) // BATCH_ROWS, 4 * workers))
    source = ray.data.from_items([{"row": canonical(row)} for row in ordered], override_num_blocks=blocks)
    results = source.map_batches(
        run_batch,
        fn_kwargs={"spec": spec},
        batch_size=BATCH_ROWS,
        compute=ray.data.TaskPoolStrategy(size=workers),
        num_cpus=1,
    )
    try:
        passages = [read_passage(record) for record in results.iter_rows()]
    except RayError as error:
        last = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise Unavailable(f"the rows could not be filtered, nothing was written: {last}; build again") from error
    if len(passages) != len(ordered):
        raise Unavailable(f"{len(ordered) - len(passages)} of {len(ordered)} rows were lost on the way; build again")
    return sorted(passages, key=lambda passage: passage.came_as)


def _quiet() -> None:
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
