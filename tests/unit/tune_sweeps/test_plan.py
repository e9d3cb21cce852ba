"""A plan: the same conversations for every trial, and what a pack has to be told."""

import json
from pathlib import Path
from typing import Any

import pytest

from core.errors import ConfigurationError
from core.settings import PROJECT_ROOT, Settings
from train_jobs.qlora.config import QLoraConfig
from train_jobs.qlora.data import EncodedRow, load_conversations
from train_jobs.qlora.publish import content_hash
from tune_sweeps.config import SweepConfig
from tune_sweeps.plan import for_pack, plan_axis, trial_data
from tune_sweeps.records import Trial, TrialData

pytest.importorskip("peft")


@pytest.fixture
def job(tmp_path: Path) -> QLoraConfig:
    """A job over 40 conversations of a file, of which some are long."""
    path = tmp_path / "rows.jsonl"
    said = [("안녕", "응, 안녕! " * (20 if number % 4 == 0 else 1) + str(number)) for number in range(40)]
    rows = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in said]
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows), encoding="utf-8")
    return QLoraConfig(character="haneul", data={"path": path}, validation_share=0.3, max_length=1024)


def trial(name: str, job: QLoraConfig, **changes: Any) -> Trial:
    config = QLoraConfig.model_validate({**job.model_dump(exclude_unset=True), **changes})
    return Trial(name=name, value=name, seed=config.seed, config=config)


def sweep(**values: Any) -> SweepConfig:
    return SweepConfig.model_validate({"training": {"config": "x.yaml"}, **values})


def test_all_trials_are_measured_on_the_same_conversations(job: QLoraConfig) -> None:
    trials = [trial("long", job, seed=1), trial("short", job, seed=2, max_length=48), trial("same", job, seed=3)]
    data = trial_data(trials, job, sweep(samples=3), Settings())
    shown = {name: [row.messages for row in one.validation] for name, one in data.items()}
    assert shown["long"] == shown["short"] == shown["same"] != []
    assert max(len(row.input_ids) for row in data["long"].validation) <= 48
    assert data["long"] is data["same"]
    assert len(data["short"].train) < len(data["long"].train)
    assert len(data["long"].prompts) == 3
    learned = {json.dumps(row.messages) for row in data["long"].train}
    assert not learned & {json.dumps(messages) for messages in shown["long"]}
    assert all(prompt[-1]["role"] == "user" for prompt in data["long"].prompts)


def test_measuring_takes_so_many_conversations_evenly_spread(job: QLoraConfig) -> None:
    (every,) = trial_data([trial("a", job)], job, sweep(validation_rows=None), Settings()).values()
    (some,) = trial_data([trial("a", job)], job, sweep(validation_rows=4), Settings()).values()
    (most,) = trial_data([trial("a", job)], job, sweep(validation_rows=1000), Settings()).values()
    count = len(every.validation)
    assert count > 4
    assert some.validation == tuple(every.validation[place * count // 4] for place in range(4))
    assert most.validation == every.validation


def test_sources_that_hold_a_conversation_twice_are_measured_on_the_same_ones(
    job: QLoraConfig, tmp_path: Path
) -> None:
    rows = job.data.path.read_text(encoding="utf-8").splitlines(keepends=True)  # type: ignore[union-attr]  # set above
    twice = tmp_path / "twice.jsonl"
    twice.write_text("".join(rows[:20] * 2 + rows[20:]), encoding="utf-8")
    trials = [trial("once", job), trial("twice", job, data={"path": twice})]
    once, both = trial_data(trials, job, sweep(validation_rows=5), Settings()).values()
    assert [row.messages for row in once.validation] == [row.messages for row in both.validation]
    assert len(once.validation) == 5


def test_a_plan_knows_which_data_base_and_tokenizer_it_was_made_of(job: QLoraConfig) -> None:
    trials = [trial("a", job), trial("b", job, seed=1)]
    (origin, same) = (one.origin for one in trial_data(trials, job, sweep(samples=3), Settings()).values())
    assert origin is not None
    assert origin == same
    found = load_conversations(job, Settings())
    assert (origin.dataset, origin.dataset_hash) == ("rows.jsonl", found.digest)
    assert origin.base_revision == content_hash([PROJECT_ROOT / "models" / "base" / "model.safetensors"])
    assert origin.tokenizer_revision == content_hash([PROJECT_ROOT / "models" / "base" / "tokenizer.json"])


def test_epochs_are_not_compared_where_the_steps_are_given(job: QLoraConfig, tmp_path: Path) -> None:
    config = sweep(axes={"epochs": [1, 2]}, training={"config": "x.yaml", "trials": {"max_steps": 3}})
    with pytest.raises(ConfigurationError, match=r"axes\.epochs: max_steps decides"):
        plan_axis("epochs", config, job, tmp_path, Settings())


def test_what_cannot_win_is_tried_all_the_same(job: QLoraConfig, tmp_path: Path) -> None:
    values = {"axes": {"rank": [16, 32]}, "served_by": "serve_local.yaml"}
    config = SweepConfig.model_validate({"training": {"config": "x.yaml"}, **values})
    plan = plan_axis("rank", config, job, tmp_path / "sweep", Settings())
    assert [one.barred for one in plan.trials] == ["", "tried, not servable (max_lora_rank 16)"]


def test_a_pack_is_told_rows_and_steps_and_counts_a_packed_jobs_sequences() -> None:
    rows = tuple(EncodedRow([], [1] * 25, [1] * 25) for _ in range(80))
    data = TrialData(rows, rows[:1], ())
    job = QLoraConfig(character="haneul", batch_size=2, accumulation=2, epochs=1.5, max_length=100)
    plain = for_pack(Trial(name="a", value="a", seed=0, config=job), data)
    assert (plain.rows_per_step, plain.config.max_steps) == (4, 30)
    packed = for_pack(trial("b", job, packing=True), data)
    assert (packed.rows_per_step, packed.config.max_steps) == (16, 8)
    uneven = tuple(EncodedRow([], [1] * length, [1] * length) for length in (60, 60, 60, 30) * 20)
    # Three sequences of one long row, of which one has room for a short one too: 4 rows in 3 sequences.
    between = for_pack(trial("d", job, packing=True), TrialData(uneven, uneven[:1], ()))
    assert between.rows_per_step == round(4 * 4 / 3)
    assert for_pack(trial("c", job, max_steps=5), data).config.max_steps == 5


def test_every_value_of_an_axis_must_fit_the_gpu(
    job: QLoraConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train_jobs.qlora.preflight.gpus_gib", list)
    on_gpu = job.model_copy(update={"use_gpu": True, "gpu_memory_gib": 4.0})
    values: dict[str, Any] = {"training": {"config": "x.yaml"}, "devices": {"gpus": 1}}
    config = SweepConfig.model_validate({**values, "axes": {"batch_size": [1, 4096]}})
    with pytest.raises(ConfigurationError, match="gpu_memory_gib: a process needs about"):
        plan_axis("batch_size", config, on_gpu, tmp_path, Settings())
    fitting = config.model_copy(update={"axes": {"batch_size": (1, 2)}})
    assert len(plan_axis("batch_size", fitting, on_gpu, tmp_path, Settings()).trials) == 2


def test_a_packed_plan_refuses_what_the_pack_would_ignore_unless_the_trials_go_without(
    job: QLoraConfig, tmp_path: Path
) -> None:
    values = {"axes": {"rank": [4, 8]}, "trainable": "packed", "pack": {"slots": 4}, "max_concurrent": 2}
    config = SweepConfig.model_validate({"training": {"config": "x.yaml"}, **values})
    saving = job.model_copy(update={"gradient_checkpointing": True})
    with pytest.raises(ConfigurationError, match="gradient_checkpointing: a pack cannot do"):
        plan_axis("rank", config, saving, tmp_path, Settings())
    without = config.training.model_copy(update={"trials": {"gradient_checkpointing": False}})
    plan = plan_axis("rank", config.model_copy(update={"training": without}), saving, tmp_path, Settings())
    assert (len(plan.trials), plan.at_once) == (2, 2)
    assert all(point.job.gradient_checkpointing for point in plan.points)


def test_a_plan_has_each_value_with_each_seed_and_what_its_adapter_takes(job: QLoraConfig, tmp_path: Path) -> None:
    values = {"axes": {"rank": [4, 8]}, "seeds": [0, 1], "trainable": "packed"}
    config = SweepConfig.model_validate({"training": {"config": "x.yaml"}, **values})
    plan = plan_axis("rank", config, job, tmp_path / "sweep", Settings())
    assert [one.name for one in plan.trials] == ["rank-4-s0", "rank-4-s1", "rank-8-s0", "rank-8-s1"]
    assert [one.config.alpha for one in plan.trials] == [8, 8, 16, 16]
    sizes = plan.adapter_mib
    assert sizes["rank-4-s0"] == sizes["rank-4-s1"] == pytest.approx(sizes["rank-8-s0"] / 2)
    assert all(one.config.max_steps for one in plan.trials)
    assert not (tmp_path / "sweep").exists()
    twice = config.model_copy(update={"seeds": (1, 1)})
    with pytest.raises(ConfigurationError, match="same name"):
        plan_axis("rank", twice, job, tmp_path / "sweep", Settings())
