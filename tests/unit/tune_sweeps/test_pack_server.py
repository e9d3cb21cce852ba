"""The pack as an actor, without Ray around it: trials advance together, and nobody waits for the dead."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from core.errors import ConfigurationError, TrainingDiverged, Unavailable
from train_jobs.qlora.config import QLoraConfig
from train_jobs.qlora.data import IGNORED, EncodedRow
from tune_sweeps.config import PackConfig
from tune_sweeps.pack_server import STATE, PackServer
from tune_sweeps.packed import point
from tune_sweeps.records import Trial, TrialData

pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("bitsandbytes")

# Long enough for a start or a step on a machine that is busy with something else.
PATIENCE_S = 3.0
GATHER_S = 2.0


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a random Llama of two small layers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=32,
    )
    folder = tmp_path_factory.mktemp("base")
    LlamaForCausalLM(shape).save_pretrained(folder)
    return str(folder)


def server_of(base: str, slots: int = 2, **rates: float) -> PackServer:
    """A server with a trial for each keyword, named and with the learning rate as given."""
    trials = {}
    for name, rate in rates.items():
        config = QLoraConfig(
            **{"character": "haneul", "base_model": base, "quantize": False, "bf16": False, "max_length": 16},
            **{"rank": 2, "alpha": 4, "learning_rate": rate, "max_steps": 4, "cpus_per_worker": 1},
        )
        trials[name] = Trial(name=name, value=name, seed=0, config=config, rows_per_step=2)
    tokens = [[(start + place) % 64 for place in range(12)] for start in range(6)]
    rows = tuple(EncodedRow([], ids, [IGNORED] * 3 + ids[3:]) for ids in tokens)
    data = dict.fromkeys(trials, TrialData(rows[:4], rows[4:], ()))
    common = next(iter(trials.values())).config
    return PackServer(common, PackConfig(slots=slots, patience_s=PATIENCE_S, gather_s=GATHER_S), 4, trials, data)


@pytest.fixture
async def server(base: str) -> AsyncIterator[PackServer]:
    made = server_of(base, a=1e-2, b=2e-2, c=3e-2)
    yield made
    for name in await made.held():
        await made.release(name)


async def test_a_round_waits_for_every_trial_that_holds_a_slot(server: PackServer) -> None:
    await server.start("a")
    await server.start("b")
    first = asyncio.create_task(server.advance("a", 2, checkpoint=False))
    await asyncio.sleep(0.1)
    assert not first.done()
    second = await server.advance("b", 2, checkpoint=True)
    one = await first
    assert (one.step, second.step) == (2, 2)
    assert one.files == {}
    assert {"adapter_config.json", "adapter_model.safetensors", STATE} <= set(second.files)
    assert one.seconds == second.seconds > 0


async def test_a_trial_that_asks_for_more_steps_gets_them_in_several_rounds(server: PackServer) -> None:
    await server.start("a")
    await server.start("b")
    long = asyncio.create_task(server.advance("a", 4, checkpoint=False))
    assert (await server.advance("b", 1, checkpoint=False)).step == 1
    assert (await server.advance("b", 3, checkpoint=False)).step == 4
    assert (await long).step == 4


async def test_a_stopped_trials_slot_goes_to_the_next_one(server: PackServer) -> None:
    await server.start("a")
    await server.start("b")
    waiting = asyncio.create_task(server.start("c"))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await server.release("a")
    await waiting
    assert await server.held() == ("b", "c")
    done = await asyncio.gather(server.advance("b", 1, checkpoint=False), server.advance("c", 1, checkpoint=False))
    assert [segment.step for segment in done] == [1, 1]


async def test_nobody_waits_for_a_trial_that_says_nothing(server: PackServer) -> None:
    await server.start("a")
    await server.start("b")
    segment = await asyncio.wait_for(server.advance("a", 1, checkpoint=False), 10 * PATIENCE_S)
    assert segment.step == 1
    assert await server.held() == ("a",)
    with pytest.raises(Unavailable, match="its slot was taken"):
        await server.advance("b", 1, checkpoint=False)


async def test_the_first_trial_waits_a_moment_for_those_that_are_to_come(server: PackServer) -> None:
    await server.start("a")
    first = asyncio.create_task(server.advance("a", 1, checkpoint=False))
    await asyncio.sleep(GATHER_S / 2)
    assert server._round is None, "it went on alone"
    await server.start("b")
    together = await asyncio.gather(first, server.advance("b", 1, checkpoint=False))
    assert together[0].seconds == together[1].seconds, "they were in two rounds"


async def test_who_does_not_come_in_time_is_not_waited_for(server: PackServer) -> None:
    await server.start("a")
    began = time.monotonic()
    assert (await server.advance("a", 1, checkpoint=False)).step == 1
    assert time.monotonic() - began >= 0.9 * GATHER_S
    assert server._gathering_s() == 0, "it would wait again"


async def test_nobody_waits_for_a_trial_that_is_over_before_it_began(server: PackServer) -> None:
    server._gather_s = 60.0
    await server.start("a")
    waiting = asyncio.create_task(server.advance("a", 1, checkpoint=False))
    await asyncio.sleep(0)
    await server.release("b")
    await server.release("c")
    assert (await asyncio.wait_for(waiting, 10)).step == 1


async def test_an_old_process_cannot_touch_the_slot_of_the_trials_restart(server: PackServer) -> None:
    old = await server.start("a")
    new = await server.start("a")
    await server.release("a", old)
    assert await server.held() == ("a",)
    with pytest.raises(Unavailable, match="begun again"):
        await server.advance("a", 1, False, old)
    assert (await server.advance("a", 1, False, new)).step == 1
    await server.release("a", new)
    assert await server.held() == ()


async def test_a_start_that_waits_gives_way_to_the_trials_restart(base: str) -> None:
    server = server_of(base, slots=1, a=1e-2, b=1e-2)
    holder = await server.start("a")
    old = asyncio.create_task(server.start("b"))
    await asyncio.sleep(0)
    new = asyncio.create_task(server.start("b"))
    await asyncio.sleep(0)
    await server.release("a", holder)
    with pytest.raises(Unavailable, match="begun again"):
        await old
    segment = await server.advance("b", 1, False, await new)
    assert (segment.step, await server.held()) == (1, ("b",))
    await server.release("b")


async def test_a_trial_that_finds_no_slot_in_time_says_so(base: str) -> None:
    server = server_of(base, slots=1, a=1e-2, b=1e-2)
    await server.start("a")
    rival = asyncio.create_task(server.start("b"))
    for _ in range(3):  # the holder is alive all the time
        await server.advance("a", 1, checkpoint=False)
        await asyncio.sleep(PATIENCE_S / 2)
    with pytest.raises(Unavailable, match="no slot of the pack became free"):
        await rival
    await server.release("a")


async def test_a_trial_goes_on_from_its_checkpoint_as_if_nothing_had_happened(base: str) -> None:
    whole, parted = server_of(base, a=1e-2), server_of(base, a=1e-2)
    await whole.start("a")
    expected = await whole.advance("a", 4, checkpoint=False)
    await parted.start("a")
    kept = (await parted.advance("a", 2, checkpoint=True)).files[STATE]
    await parted.advance("a", 1, checkpoint=False)
    await parted.start("a", kept)  # as after a kill: the slot is still held
    found = await parted.advance("a", 2, checkpoint=False)
    assert (found.step, found.loss, found.validation_loss) == (4, expected.loss, expected.validation_loss)


async def test_a_trial_whose_loss_is_no_number_harms_no_other(base: str) -> None:
    server = server_of(base, good=1e-2, wild=1e30)
    await server.start("good")
    await server.start("wild")
    good, wild = await asyncio.gather(
        *(server.advance(name, 3, checkpoint=False) for name in ("good", "wild")), return_exceptions=True
    )
    assert good.step == 3  # type: ignore[union-attr]  # no exception: the other trial raised
    assert isinstance(wild, TrainingDiverged)


async def test_a_trial_that_cannot_begin_leaves_no_slot_behind(base: str) -> None:
    server = server_of(base, a=1e-2, b=1e-2)
    too_high: Any = server._trials["b"].config.model_copy(update={"rank": 64})
    server._trials["b"] = server._trials["b"].model_copy(update={"config": too_high})
    await server.start("a")
    with pytest.raises(ConfigurationError, match="rank 64"):
        await server.start("b")
    assert await server.held() == ("a",)
    assert (await server.advance("a", 1, checkpoint=False)).step == 1


async def test_a_state_that_cannot_be_loaded_leaves_no_slot_behind(
    base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = server_of(base, slots=1, a=1e-2)
    await server.start("a")
    kept = (await server.advance("a", 1, checkpoint=True)).files[STATE]
    await server.release("a")

    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patched:
        patched.setattr("train_jobs.packed.pack.Slot.load", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            await server.start("a", kept)
    assert (await server.held(), server._pack.free) == ((), 1)
    await server.start("a", kept)
    assert (await server.advance("a", 1, checkpoint=False)).step == 2
    await server.release("a")


async def test_a_start_that_is_given_up_frees_what_it_began(base: str) -> None:
    server = server_of(base, slots=1, a=1e-2)
    starting = asyncio.create_task(server.start("a"))
    while "a" not in server._pack.held:
        await asyncio.sleep(0)
    starting.cancel()
    with suppress(asyncio.CancelledError):
        await starting
        await server.release("a")  # it was through already
    assert (await server.held(), server._pack.free) == ((), 1)


async def test_a_segment_says_how_the_steps_went(server: PackServer) -> None:
    await server.start("a")
    segment = await server.advance("a", 2, checkpoint=False)
    assert 0 < segment.learning_rate <= 1e-2
    assert segment.grad_norm > 0
    # Two steps of two conversations with twelve tokens each; validation takes time too, and is not counted.
    assert segment.tokens_per_s >= 2 * 2 * 12 / segment.seconds
    shown = point(segment, 4, server._data["a"], seconds_before=1.0, memory_mib=2.0)
    assert (shown.learning_rate, shown.grad_norm) == (segment.learning_rate, segment.grad_norm)
    assert shown.tokens_per_s == segment.tokens_per_s


def test_settings_reach_the_slot(base: str) -> None:
    from tune_sweeps.pack_server import slot_settings

    trial = server_of(base, a=5e-3)._trials["a"]
    slot = slot_settings(trial)
    assert (slot.rank, slot.alpha, slot.learning_rate, slot.steps, slot.rows_per_step) == (2, 4, 5e-3, 4, 2)
    without = trial.model_copy(update={"config": trial.config.model_copy(update={"max_steps": None})})
    with pytest.raises(ConfigurationError, match="needs max_steps"):
        slot_settings(without)


def test_the_base_is_found_before_any_trial(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere"):
        server_of(str(tmp_path / "nowhere"), a=1e-2)
