"""Memory of an axis: every trial is held against the GPU, and of a pack as many as learn at once."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")

from core.errors import ConfigurationError
from train_jobs.qlora.config import QLoraConfig
from train_jobs.qlora.estimate import Shape, estimate
from tune_sweeps.config import PackConfig
from tune_sweeps.memory import check_space, check_trials, pack_estimate
from tune_sweeps.records import Trial

LLAMA_8B = Shape(
    linear_weights=6_979_321_856,
    other_weights=1_050_939_392,
    adapter_weights=41_943_040,
    adapted_inputs=38_912,
    layers=32,
    hidden=4096,
    intermediate=14336,
    queries=4096,
    keys=1024,
    heads=32,
    vocabulary=128_256,
)


def trial(name: str, **changes: Any) -> Trial:
    given = {"character": "haneul", "batch_size": 1, "use_gpu": True, "gpu_memory_gib": 24}
    return Trial(name=name, value=name, seed=0, config=QLoraConfig.model_validate(given | changes))


@pytest.fixture(autouse=True)
def no_gpu_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train_jobs.qlora.preflight.gpus_gib", list)


@pytest.mark.parametrize(
    "change", [{"batch_size": 16}, {"max_length": 16384}, {"attention": "eager", "batch_size": 4}]
)
def test_each_value_of_an_axis_is_held_against_the_gpu(change: dict[str, Any]) -> None:
    first, second = trial("fits"), trial("too large", **change)
    shapes = {"fits": LLAMA_8B, "too large": LLAMA_8B}
    check_trials([first], shapes, None)
    with pytest.raises(ConfigurationError, match=r"needs about .* of 24\.0 GiB: lower batch_size"):
        check_trials([first, second], shapes, None)


def test_trials_that_share_a_gpu_are_held_against_their_share() -> None:
    check_trials([trial("a")], {"a": LLAMA_8B}, None)
    with pytest.raises(ConfigurationError, match=r"of 12\.0 GiB: lower batch_size"):
        check_trials([trial("a", batch_size=2)], {"a": LLAMA_8B}, None, gpu_share=0.5)


def test_a_pack_holds_one_base_and_of_all_else_as_much_as_learns_at_once() -> None:
    jobs = [(trial(name).config, LLAMA_8B) for name in "abcdef"]
    one, four = (pack_estimate(jobs, PackConfig(slots=slots)) for slots in (1, 4))
    assert four.weights == one.weights == estimate(*jobs[0]).weights
    for part in ("adapter", "gradients", "optimizer", "activations", "logits"):
        assert getattr(four, part) == 4 * getattr(one, part)
    held = pack_estimate(jobs, PackConfig(slots=1, cache_dequantized=True))
    assert held.weights - one.weights == 2 * LLAMA_8B.linear_weights


def test_a_pack_is_as_large_as_its_largest_trials() -> None:
    small, large = trial("small").config, trial("large", batch_size=2).config
    pack = PackConfig(slots=2)
    mixed = pack_estimate([(small, LLAMA_8B), (small, LLAMA_8B), (large, LLAMA_8B)], pack)
    assert mixed.activations == pytest.approx(1.5 * pack_estimate([(small, LLAMA_8B)] * 2, pack).activations)


def test_a_pack_that_does_not_fit_is_told_what_to_lower() -> None:
    trials = [trial(name) for name in "abcd"]
    shapes = dict.fromkeys("abcd", LLAMA_8B)
    check_trials(trials, shapes, PackConfig(slots=1))
    with pytest.raises(ConfigurationError, match=r"of 24\.0 GiB: lower pack\.slots, .*trainable=solo"):
        check_trials(trials, shapes, PackConfig(slots=4))


def test_a_disk_that_cannot_hold_the_checkpoints_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def two_gib_free(place: Path) -> SimpleNamespace:
        asked.append(place)
        return SimpleNamespace(free=2 * 2**30)

    monkeypatch.setattr("tune_sweeps.memory.shutil.disk_usage", two_gib_free)
    folder = tmp_path / "not" / "there"
    check_space(folder, {"a": 300.0, "b": 300.0})
    with pytest.raises(ConfigurationError, match=r"2\.0 GiB free .* need 3\.5 GiB"):
        check_space(folder, {"a": 600.0, "b": 600.0})
    assert set(asked) == {tmp_path}
