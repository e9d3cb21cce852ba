"""The pack as an actor: one base on a device, and trials that ask it for their adapters' next steps.

The adapters advance together, because the base's forward and backward run once for all of them. So a round begins
when every trial that holds a slot has asked for its next steps. While a slot is free and trials are still to come, it
waits for them too, at most ``gather_s``.

A trial that Tune stops gives its slot back; for one whose process was killed Tune's callback does it. A trial that
says nothing for ``patience_s`` loses its slot: nobody waits for the dead.

A trial may be begun again while its old process, or a call of it, is still on its way. So each start has a token, and
what carries an older one changes nothing.

Everything but the pack's own work runs on the actor's event loop, and that work in one thread: there are no locks.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from core.errors import ConfigurationError, TrainingDiverged, Unavailable
from core.logs import get_logger, setup_logging
from core.settings import get_settings
from train_jobs.packed.pack import Pack
from train_jobs.packed.settings import SlotSettings
from train_jobs.packed.slot import StepResult
from train_jobs.qlora.config import QLoraConfig
from tune_sweeps.config import PackConfig
from tune_sweeps.records import Trial, TrialData
from tune_sweeps.solo import device

STATE = "slot.pt"
POLL_S = 0.2
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Segment:
    """What a trial gets for its request."""

    step: int
    loss: float
    """Training loss of the last step."""

    learning_rate: float
    grad_norm: float
    """Of the last step, before clipping."""

    tokens_per_s: float
    """The trial's real tokens in its share of the steps' time, without validation."""

    validation_loss: float
    seconds: float
    """Of the round, divided by the slots that took part."""

    files: dict[str, bytes]
    """A checkpoint: the adapter in PEFT's format and the slot's state; empty when none was asked for."""


@dataclass(slots=True)
class _Request:
    steps: int
    checkpoint: bool
    answer: asyncio.Future[Segment]
    seconds: float = 0.0
    step_seconds: float = 0.0
    """The part of ``seconds`` that is no validation."""

    tokens: int = 0


class PackServer:
    """Holds a :class:`train_jobs.packed.pack.Pack`; one asynchronous Ray actor.

    Args:
        config: What all trials have in common: the base and how it is held.
        pack: How many adapters at the same time, and how long a trial may be silent, wait for a free slot, or is
            waited for.
        max_rank: The highest rank of any trial.
        trials: All trials of the axis, by name.
        data: Their conversations, by name.
    """

    def __init__(
        self,
        config: QLoraConfig,
        pack: PackConfig,
        max_rank: int,
        trials: dict[str, Trial],
        data: dict[str, TrialData],
    ) -> None:
        setup_logging(get_settings())
        self._trials, self._data, self._slots = trials, data, pack.slots
        self._patience_s, self._gather_s = pack.patience_s, pack.gather_s
        self._thread = ThreadPoolExecutor(1)
        self._held: set[str] = set()
        """Trials that hold a slot, or are about to."""

        self._tokens: dict[str, int] = {}
        """Of each trial's newest start."""

        self._starts = itertools.count(1)
        self._coming = set(trials)
        """Trials that may still take a slot: they have not begun, or are about to."""

        self._gather_until: float | None = None
        """On the monotonic clock; set by the first start and whenever a slot becomes free."""

        self._requests: dict[str, _Request] = {}
        self._leases: dict[str, asyncio.TimerHandle] = {}
        self._round: asyncio.Task[None] | None = None
        self._pack = load_pack(config, pack, max_rank)

    async def start(self, name: str, state: bytes | None = None) -> int:
        """Take a free slot for a trial; with a state it goes on from there.

        Returns:
            The start's token, for ``advance`` and ``release``.

        Raises:
            Unavailable: No slot became free in time, or the trial was begun again or ended meanwhile.
        """
        token = self._tokens[name] = next(self._starts)
        self._coming.add(name)
        if self._gather_until is None:
            self._gather_until = time.monotonic() + self._gather_s
        try:
            await self._free(name)  # what a killed process of the same trial left
            await self._slot_for(name, token)
            await self._do(lambda: self._begin(name, state))
            self._check(name, token)
        except BaseException:
            if self._is_newest(name, token):  # else the slot is, or will be, another's
                await self._free(name)
            raise
        else:
            self._lease(name)
        finally:
            if self._is_newest(name, token):
                self._coming.discard(name)
            self._begin_round()
        return token

    async def advance(self, name: str, steps: int, checkpoint: bool, token: int | None = None) -> Segment:
        """The trial's next ``steps`` steps, together with those of all others, then a validation.

        ``token``: of the start that asks; ``None`` is the newest one.

        Raises:
            Unavailable: The trial holds no slot, because it was silent for too long or was begun again.
            TrainingDiverged: Its loss is no number; the slot is free again.
        """
        if name not in self._held:
            raise Unavailable(f"{name}: its slot was taken after {self._patience_s:.0f} s without a request")
        self._check(name, self._tokens.get(name, 0) if token is None else token)
        self._end_lease(name)
        request = _Request(steps, checkpoint, asyncio.get_running_loop().create_future())
        self._requests[name] = request
        self._begin_round()
        return await request.answer

    async def release(self, name: str, token: int | None = None) -> None:
        """Give a trial's slot back; nothing happens when it holds none.

        ``token``: of the start that gives it back, which does nothing to a newer one; ``None``: the trial is over.
        """
        if token is not None and not self._is_newest(name, token):
            return
        self._tokens.pop(name, None)
        self._coming.discard(name)
        await self._free(name)
        self._begin_round()

    async def held(self) -> tuple[str, ...]:
        """Trials that hold a slot."""
        return tuple(sorted(self._held))

    # --- slots ------------------------------------------------------------------------------------------------------

    def _is_newest(self, name: str, token: int) -> bool:
        return self._tokens.get(name) == token

    def _check(self, name: str, token: int) -> None:
        if not self._is_newest(name, token):
            raise Unavailable(f"{name}: the trial was begun again, or is over")

    async def _slot_for(self, name: str, token: int) -> None:
        """Return when one is free, and taken for the trial."""
        deadline = time.monotonic() + self._patience_s
        self._check(name, token)
        while len(self._held) >= self._slots:
            if time.monotonic() > deadline:
                raise Unavailable(f"{name}: no slot of the pack became free in {self._patience_s:.0f} s")
            await asyncio.sleep(POLL_S)
            self._check(name, token)
        self._held.add(name)

    async def _free(self, name: str) -> None:
        """Make the trial's slot another's, if it has one."""
        if name not in self._held:
            return
        self._end_lease(name)
        if request := self._requests.pop(name, None):
            request.answer.cancel()
        await self._do(lambda: self._pack.stop(name) if name in self._pack.held else None)
        self._held.discard(name)
        self._gather_until = time.monotonic() + self._gather_s

    # --- rounds -----------------------------------------------------------------------------------------------------

    def _begin_round(self) -> None:
        """Start one when every slot's trial has asked, and nobody is to be waited for."""
        running = self._round is not None and not self._round.done()
        if running or not self._requests or self._requests.keys() != self._held:
            return
        loop = asyncio.get_running_loop()
        if (left := self._gathering_s()) > 0:
            loop.call_later(left, self._begin_round)
        else:
            self._round = loop.create_task(self._run_round())

    def _gathering_s(self) -> float:
        """Seconds for which a round still waits: only where a slot is free and a trial may come for it."""
        if len(self._held) >= self._slots or not self._coming or self._gather_until is None:
            return 0.0
        return max(0.0, self._gather_until - time.monotonic())

    async def _run_round(self) -> None:
        requests = dict(self._requests)  # as they are now: one may have been released since the round was called
        try:
            answers = await self._do(lambda: self._work(requests))
        except Exception as error:  # whose fault it is cannot be told: every trial of the round hears of it
            answers = dict.fromkeys(requests, error)
        for name, answer in answers.items():
            if self._requests.get(name) is requests[name]:  # not released meanwhile
                del self._requests[name]
                _reply(requests[name].answer, answer)
                self._lease(name)
        self._round = None
        self._begin_round()

    # --- leases -----------------------------------------------------------------------------------------------------

    def _lease(self, name: str) -> None:
        """From now on the trial has ``patience_s`` for its next request."""
        loop, token = asyncio.get_running_loop(), self._tokens[name]
        self._end_lease(name)
        self._leases[name] = loop.call_later(self._patience_s, lambda: loop.create_task(self._give_up(name, token)))

    def _end_lease(self, name: str) -> None:
        if handle := self._leases.pop(name, None):
            handle.cancel()

    async def _give_up(self, name: str, token: int) -> None:
        get_logger("sweep").warning("slot taken from a silent trial", trial=name, after_s=self._patience_s)
        await self.release(name, token)

    # --- the pack's own work, in its thread -------------------------------------------------------------------------

    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _begin(self, name: str, state: bytes | None) -> None:
        import torch

        slot, data = slot_settings(self._trials[name]), self._data[name]
        if state is None:
            self._pack.start(slot, data.train, data.validation)
            return
        kept = torch.load(io.BytesIO(state), map_location="cpu", weights_only=True)
        self._pack.restore(slot, data.train, data.validation, kept)

    def _work(self, requests: dict[str, _Request]) -> dict[str, Segment | Exception]:
        """Advance all until the first has what it asked for; measure, and save, those that have."""
        began = time.monotonic()
        results = self._steps(requests)
        done = [name for name, request in requests.items() if request.steps <= 0 or results[name].finished]
        losses = self._pack.evaluate(done)
        share = (time.monotonic() - began) / max(1, len(requests))
        for request in requests.values():
            request.seconds += share
        return {name: self._segment(requests[name], results[name], name, losses[name]) for name in done}

    def _steps(self, requests: dict[str, _Request]) -> dict[str, StepResult]:
        """As many as every trial still wants; the last one of each."""
        began = time.monotonic()
        steps = min((request.steps for request in requests.values()), default=0)
        results: dict[str, StepResult] = {}
        for _ in range(steps):
            results |= (done := self._pack.step(list(requests)))
            for name, result in done.items():
                requests[name].tokens += result.tokens
        for request in requests.values():
            request.steps -= steps
            request.step_seconds += (time.monotonic() - began) / len(requests)
        return results

    def _segment(self, request: _Request, result: StepResult, name: str, loss: float) -> Segment | Exception:
        """What the trial is told; a loss that is no number is its own failure, and no other's."""
        if not (math.isfinite(result.loss) and math.isfinite(loss)):
            return TrainingDiverged(
                f"step {result.step}: the training loss is {result.loss}, the validation loss {loss}; the learning "
                "rate may be too high"
            )
        files = self._files(name) if request.checkpoint or result.finished else {}
        return Segment(
            step=result.step,
            loss=result.loss,
            learning_rate=result.learning_rate,
            grad_norm=result.grad_norm,
            tokens_per_s=request.tokens / max(request.step_seconds, 1e-9),
            validation_loss=loss,
            seconds=request.seconds,
            files=files,
        )

    def _files(self, name: str) -> dict[str, bytes]:
        import torch

        buffer = io.BytesIO()
        torch.save(self._pack.state(name), buffer)
        with TemporaryDirectory(prefix="pack-") as folder:
            self._pack.save(name, Path(folder))
            files = {file.name: file.read_bytes() for file in Path(folder).iterdir() if file.is_file()}
        return {**files, STATE: buffer.getvalue()}


def _reply(future: asyncio.Future[Segment], answer: Segment | Exception) -> None:
    if future.done():
        return  # nobody waits for it any more
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)


def load_pack(config: QLoraConfig, pack: PackConfig, max_rank: int) -> Pack:
    """The pack on this process's device."""
    import torch

    torch.set_num_threads(config.cpus_per_worker)
    return Pack.load(
        config.base_model,
        slots=pack.slots,
        max_rank=max_rank,
        target_modules=config.target_modules,
        quantize=config.quantize,
        double_quant=config.double_quant,
        bf16=config.bf16,
        attention=config.attention,
        max_length=config.max_length,
        device=device(),
        cache_dequantized=pack.cache_dequantized,
        bf16_adapters=pack.bf16_adapters,
    )


def slot_settings(trial: Trial) -> SlotSettings:
    """The trial's settings in the pack's words."""
    config = trial.config
    if config.max_steps is None:
        raise ConfigurationError(f"{trial.name}: a pack needs max_steps")
    return SlotSettings(
        name=trial.name,
        rank=config.rank,
        alpha=config.alpha,
        dropout=config.dropout,
        learning_rate=config.learning_rate,
        warmup=config.warmup,
        weight_decay=config.weight_decay,
        steps=config.max_steps,
        rows_per_step=trial.rows_per_step,
        accumulation=config.accumulation,
        seed=trial.seed,
    )
