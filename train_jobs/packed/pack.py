"""The pack: adapters that share a frozen base and every pass through it, and nothing else.

Rows of all running adapters go through the base in one mixed batch. What belongs to an adapter is its own: rank,
scale, dropout, order of the rows, loss normalisation, clipping, optimiser, schedule. The losses are summed, and as no
adapter's loss depends on another's weights, one backward pass gives each its own gradient. So an adapter learns what
it would have learned alone, up to rounding, and its slot can be given to another at any time.

It pays where one adapter's batch is too small to keep the device busy, where 4-bit weights have to be dequantised for
every pass, and by loading the base once; a device that one adapter keeps busy has nothing to give to four.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from core.errors import ConfigurationError
from train_jobs.packed.base import hold_dequantized, load_frozen
from train_jobs.packed.batch import collate
from train_jobs.packed.routing import Route, Router
from train_jobs.packed.settings import SlotSettings
from train_jobs.packed.slot import Slot, SlotState, StepResult, check_rows, check_state, target_count
from train_jobs.qlora.data import EncodedRow

SPARE = "spare"
"""An adapter of rank 1 that is never used: PEFT's model always has one, and finds the layers to adapt with it."""


class Pack:
    """Adapters in training over one base; one thread at a time.

    ::

        pack = Pack.load("base", slots=4, max_rank=128, max_length=768)
        for settings in configurations:
            pack.start(settings, split.train, split.validation)
        while pack.running:
            pack.step()
        losses = pack.evaluate(pack.held)
        pack.save(min(losses, key=losses.get), folder)
    """

    def __init__(
        self,
        model: Any,
        *,
        base: str,
        slots: int,
        max_rank: int,
        max_length: int,
        target_modules: str | Sequence[str] = "all-linear",
        bf16_adapters: bool = False,
    ) -> None:
        """Over a model that is loaded already and belongs to the pack from now on; ``load`` says the rest."""
        from peft import get_peft_model

        self._base = base
        self._slot_count = slots
        self._max_rank = max_rank
        self._max_length = max_length
        self._slots: dict[str, Slot] = {}
        self._targets = target_modules if isinstance(target_modules, str) else sorted(target_modules)
        try:
            self._peft = get_peft_model(model, self._lora_config(rank=1, alpha=1), adapter_name=SPARE)
        except ValueError as error:
            raise ConfigurationError(f"target_modules: {error}") from error
        found = self._peft.peft_config[SPARE].target_modules
        self._targets = found if isinstance(found, str) else sorted(found)
        self._model = self._peft.get_base_model()
        self._flat = self._model.config._attn_implementation == "flash_attention_2"
        self._router = Router(bf16_adapters)
        self._router.install(self._model)

    @classmethod
    def load(
        cls,
        base: str,
        *,
        slots: int,
        max_rank: int,
        max_length: int,
        target_modules: str | Sequence[str] = "all-linear",
        quantize: bool = True,
        double_quant: bool = True,
        bf16: bool = True,
        attention: str = "sdpa",
        device: Any = "cpu",
        cache_dequantized: bool = False,
        bf16_adapters: bool = False,
    ) -> Self:
        """Load the base; the settings are those of the fine-tuning job (``QLoraConfig``).

        Args:
            base: Name under ``models/``, a local directory, or a hub name.
            slots: How many adapters are held at once.
            max_rank: Greatest rank that a slot may ask for. It reserves nothing: adapters have their own rank.
            max_length: Longest conversation in tokens.
            device: ``cpu``, ``cuda`` or a ``torch.device``.
            cache_dequantized: Hold what the 4-bit weights stand for beside them, instead of working it out in every
                forward and backward pass. On CPUs the numbers stay the same to the bit. It pays on CPUs always, on
                GPUs while passes are short; it costs two bytes per weight of the base, which is what 4 bits were to
                save, so not where memory is short.
            bf16_adapters: Multiply adapters in bfloat16, as the fine-tuning job does with ``bf16``; weights and
                optimiser stay float32. Such products are up to eight times as fast where the CPU has units for them.
                Off: float32, which rounds less.

        Raises:
            ConfigurationError: There is no such base, or it has no such target modules.
        """
        if slots < 1 or max_rank < 1:
            raise ConfigurationError(f"slots {slots}, max_rank {max_rank}: give at least 1 of each")
        if bf16_adapters and not bf16:
            raise ConfigurationError("bf16_adapters: set bf16 with it")
        model = load_frozen(
            base, quantize=quantize, bf16=bf16, attention=attention, device=device, double_quant=double_quant
        )
        if cache_dequantized:
            hold_dequantized(model)
        return cls(
            model,
            base=base,
            slots=slots,
            max_rank=max_rank,
            max_length=max_length,
            target_modules=target_modules,
            bf16_adapters=bf16_adapters,
        )

    @property
    def running(self) -> tuple[str, ...]:
        """Adapters with steps left, in the order in which they were started."""
        return tuple(name for name, slot in self._slots.items() if not slot.finished)

    @property
    def held(self) -> tuple[str, ...]:
        """All adapters that have a slot: a finished one keeps it until it is stopped."""
        return tuple(self._slots)

    @property
    def free(self) -> int:
        """Slots that ``start`` can take."""
        return self._slot_count - len(self._slots)

    def start(self, settings: SlotSettings, train: Sequence[EncodedRow], validation: Sequence[EncodedRow]) -> None:
        """Give a free slot to a new adapter, whose first weights are PEFT's for its seed.

        Raises:
            ConfigurationError: No slot is free, the name is taken, the rank is too high, or a row cannot be learned.
        """
        import torch

        self._check(settings, train, validation)
        taken = {slot.adapter for slot in self._slots.values()}
        adapter = next(name for name in map("slot{}".format, range(self._slot_count)) if name not in taken)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(settings.seed)
            config = self._lora_config(settings.rank, settings.alpha, settings.dropout)
            self._peft.add_adapter(adapter, config)
        weights = {
            name.replace(f".{adapter}.", "."): parameter.requires_grad_()
            for name, parameter in self._peft.named_parameters()
            if f".{adapter}." in name
        }
        try:
            self._slots[settings.name] = Slot(settings, adapter, weights, train, validation)
        except BaseException:  # such as for want of memory; of its own failures PEFT takes care
            self._peft.delete_adapter(adapter)
            raise

    def step(self, names: Sequence[str] | None = None) -> dict[str, StepResult]:
        """One optimiser step of every running adapter, or of the named ones among them, in mixed passes.

        There is one pass, unless adapters accumulate. An adapter whose loss is no longer finite harms no other, as
        its tokens never meet theirs: stop it. If a pass fails, no adapter has moved, and the step can be made again,
        such as with fewer adapters when memory ran out.
        """
        slots = [slot for slot in self._named(self.running if names is None else names) if not slot.finished]
        passes = [slot.next_passes() for slot in slots]
        try:
            losses = self._gradients(slots, passes)
        except BaseException:
            for slot in slots:  # those of the passes before; their memory is wanted as well
                slot.drop_gradients()
            raise
        tokens = [sum(len(row.input_ids) for rows in mine for row in rows) for mine in passes]
        done = zip(slots, losses, tokens, strict=True)
        return {slot.settings.name: slot.update(loss, count) for slot, loss, count in done}

    def _gradients(self, slots: Sequence[Slot], passes: Sequence[Sequence[Sequence[EncodedRow]]]) -> list[float]:
        """Add up each slot's gradient over its passes; each slot's loss."""
        targets = [sum(map(target_count, mine)) for mine in passes]
        losses = [0.0] * len(slots)
        for places, sums in self._mixed(slots, passes, learn=True):
            means = sums / sums.new_tensor([targets[place] for place in places])
            means.sum().backward()
            for place, loss in zip(places, means.tolist(), strict=True):
                losses[place] += loss
        return losses

    def evaluate(self, names: Sequence[str]) -> dict[str, float]:
        """Validation loss of each named adapter: cross-entropy per target token, in nats, without dropout.

        Mixed passes too, each no larger than a training pass.
        """
        import torch

        slots = self._named(names)
        passes = [slot.validation_passes() for slot in slots]
        totals = [0.0] * len(slots)
        with torch.no_grad():
            for places, sums in self._mixed(slots, passes, learn=False):
                for place, value in zip(places, sums.tolist(), strict=True):
                    totals[place] += value
        measured = zip(slots, totals, passes, strict=True)
        return {slot.settings.name: total / sum(map(target_count, mine)) for slot, total, mine in measured}

    def stop(self, name: str) -> None:
        """Forget an adapter and free its slot; save it first."""
        self._peft.delete_adapter(self._slot(name).adapter)
        del self._slots[name]

    def save(self, name: str, folder: Path) -> None:
        """Write the adapter as PEFT does: ``adapter_config.json`` and ``adapter_model.safetensors``.

        ``PeftModel.from_pretrained`` and vLLM load it; its tensors have their real rank.
        """
        from peft.utils import SAFETENSORS_WEIGHTS_NAME
        from safetensors.torch import save_file

        slot = self._slot(name)
        folder.mkdir(parents=True, exist_ok=True)
        config = copy.copy(self._peft.peft_config[slot.adapter])
        config.inference_mode = True
        config.target_modules = self._targets  # in order: PEFT's set is written differently in every run
        config.save_pretrained(str(folder))
        weights = {name: weight.detach().cpu().contiguous() for name, weight in slot.weights.items()}
        save_file(weights, folder / SAFETENSORS_WEIGHTS_NAME, metadata={"format": "pt"})

    def state(self, name: str) -> SlotState:
        """All that ``restore`` needs to go on exactly here, as a copy."""
        return self._slot(name).state()

    def restore(
        self,
        settings: SlotSettings,
        train: Sequence[EncodedRow],
        validation: Sequence[EncodedRow],
        state: SlotState,
    ) -> None:
        """``start``, but from a state. Its neighbours, its slot and its name may be others than before.

        Raises:
            ConfigurationError: As ``start``, or the state is of other settings or data.
        """
        check_state(state, settings, len(train))
        self.start(settings, train, validation)
        try:
            self._slots[settings.name].load(state)
        except BaseException:
            self.stop(settings.name)
            raise

    def _named(self, names: Sequence[str]) -> list[Slot]:
        return [self._slot(name) for name in dict.fromkeys(names)]

    def _slot(self, name: str) -> Slot:
        if name not in self._slots:
            raise ConfigurationError(f"{name}: no adapter of that name; there are {', '.join(self._slots) or 'none'}")
        return self._slots[name]

    def _check(self, settings: SlotSettings, train: Sequence[EncodedRow], validation: Sequence[EncodedRow]) -> None:
        name = settings.name
        if name in self._slots:
            raise ConfigurationError(f"{name}: the name is taken; stop that adapter or choose another name")
        if not self.free:
            raise ConfigurationError(f"{name}: all {self._slot_count} slots are taken; stop one of {self.held}")
        if settings.rank > self._max_rank:
            raise ConfigurationError(f"{name}: rank {settings.rank} is above max_rank {self._max_rank} of the pack")
        if not train or not validation:
            raise ConfigurationError(f"{name}: give rows to learn from and rows to measure on")
        check_rows(train, "training", self._max_length)
        check_rows(validation, "validation", self._max_length)

    def _mixed(
        self, slots: Sequence[Slot], passes: Sequence[Sequence[Sequence[EncodedRow]]], learn: bool
    ) -> Iterator[tuple[list[int], Any]]:
        """Pass after pass: which slots still take part, and the summed cross-entropy of each (float32)."""
        for turn in range(max(map(len, passes), default=0)):
            places = [place for place, mine in enumerate(passes) if turn < len(mine)]
            shares = [passes[place][turn] for place in places]
            yield places, self._sums([slots[place] for place in places], shares, learn)

    def _sums(self, slots: Sequence[Slot], shares: Sequence[Sequence[EncodedRow]], learn: bool) -> Any:
        import torch
        from torch.nn.functional import cross_entropy

        batch = collate(shares, flat=self._flat, device=self._model.device)
        routes = (Route(slot.adapter, slot.settings.dropout if learn else 0.0, slot.generator) for slot in slots)
        logits = self._router.send(self._model, batch, tuple(routes))
        losses = cross_entropy(logits.float(), batch.labels, reduction="none")
        return torch.stack([part.sum() for part in losses.split(batch.target_counts)])

    def _lora_config(self, rank: int, alpha: int, dropout: float = 0.0) -> Any:
        from peft import LoraConfig

        return LoraConfig(
            task_type="CAUSAL_LM",
            base_model_name_or_path=self._base,
            r=rank,
            lora_alpha=alpha,
            lora_dropout=dropout,
            target_modules=self._targets,
        )
