"""A trial whose adapter learns in the pack: it asks for the next steps, reports them, and asks again."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tune_sweeps.history import History
from tune_sweeps.pack_server import STATE, Segment
from tune_sweeps.records import CurvePoint, Trial, TrialData
from tune_sweeps.solo import last_checkpoint, report_again


def packed_trial(
    config: dict[str, Any],
    actor: str,
    trials: dict[str, Trial],
    data: dict[str, TrialData],
    memory_mib: dict[str, float],
    every: int,
) -> None:
    """Tune's function: lead one configuration through the pack, from its last checkpoint if there is one.

    Args:
        config: ``{"trial": name}``.
        actor: Name of the :class:`tune_sweeps.pack_server.PackServer`.
        trials: All trials of the axis, by name.
        data: Their conversations, by name.
        memory_mib: What each one's adapter, gradients and optimiser take, by name.
        every: Reports between checkpoints.
    """
    import ray

    name = config["trial"]
    server, job = ray.get_actor(actor), trials[name].config
    steps, stride = job.max_steps or 0, job.save_every
    with last_checkpoint() as folder:
        history = History.of(folder)
        if history.complete:  # interrupted between its last checkpoint and Tune's knowing of it
            report_again(history, folder)
            return
        state = (Path(folder) / STATE).read_bytes() if folder else None
    token = ray.get(server.start.remote(name, state))
    try:
        while history.step < steps:
            end = min(steps, (history.step // stride + 1) * stride)
            keep = end == steps or (end // stride) % every == 0
            segment: Segment = ray.get(server.advance.remote(name, end - history.step, keep, token))
            history.add(point(segment, steps, data[name], history.seconds, memory_mib[name]))
            report(history, segment.files)
    finally:
        # Also when Tune ends this thread at a report. Of a process that is killed, Tune's callback tells the pack.
        server.release.remote(name, token)


def point(segment: Segment, steps: int, rows: TrialData, seconds_before: float, memory_mib: float) -> CurvePoint:
    """What the pack did, as a point of the trial's curve."""
    return CurvePoint(
        step=segment.step,
        progress=100 * segment.step / steps,
        validation_loss=segment.validation_loss,
        bits_per_char=rows.bits_per_char(segment.validation_loss),
        train_loss=segment.loss,
        learning_rate=segment.learning_rate,
        grad_norm=segment.grad_norm,
        tokens_per_s=segment.tokens_per_s,
        seconds=seconds_before + segment.seconds,
        memory_mib=memory_mib,
    )


def report(history: History, files: dict[str, bytes]) -> None:
    """The newest point, with a checkpoint where the pack sent one."""
    from ray import tune

    if not files:
        tune.report(history.metrics())
        return
    with TemporaryDirectory(prefix="sweep-") as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        history.write(Path(folder))
        tune.report(history.metrics(), checkpoint=tune.Checkpoint.from_directory(folder))
