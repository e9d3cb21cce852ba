"""Axes: names, values, and the jobs that they make; all of it before anything is started."""

from pathlib import Path
from typing import Any

import pytest

from core.errors import ConfigurationError
from core.settings import PROJECT_ROOT, Settings
from train_jobs.config import load_config
from train_jobs.qlora.config import QLoraConfig
from train_jobs.qlora.preflight import check_rank
from tune_sweeps.axes import (
    axis_names,
    check_own,
    check_packable,
    check_packed,
    folder_name,
    label,
    points,
    wanted_axes,
)
from tune_sweeps.config import SweepConfig
from tune_sweeps.plan import load_training, runs_packed, trial_config

SETTINGS = Settings()
SHIPPED = sorted((PROJECT_ROOT / "tune_sweeps" / "configs").glob("*.yaml"))
JOB = QLoraConfig(character="haneul", rank=8, alpha=5)


def sweep(**values: Any) -> SweepConfig:
    return SweepConfig.model_validate({"training": {"config": "train_jobs/configs/smoke.yaml"}, **values})


def test_the_defaults_are_the_four_axes() -> None:
    axes = SweepConfig.model_fields["axes"].default
    assert axes["rank"] == (16, 32, 64, 128)
    assert axes["learning_rate"] == (1e-4, 2e-4, 5e-4)
    assert axes["ratio"] == ("6:2:2", "5:3:2", "7:2:1")
    assert wanted_axes(sweep(), "lr") == ["learning_rate"]


def test_all_goes_in_the_order_of_the_settings_and_leaves_out_axes_without_a_choice() -> None:
    assert wanted_axes(sweep(), "all") == ["learning_rate", "ratio", "rank"]
    two = sweep(axes={"rank": [4, 8], "dropout": [0, 0.1]}, order=["dropout", "rank"])
    assert wanted_axes(two, "all") == ["dropout", "rank"]


@pytest.mark.parametrize("asked", ["ranks", "seed", "publish", "wandb_name", ""])
def test_an_unknown_axis_is_named_with_those_there_are(asked: str) -> None:
    with pytest.raises(ConfigurationError, match=r"no axis; there are: all, lr, .*learning_rate.*ratio"):
        wanted_axes(sweep(), asked)


def test_axes_of_the_settings_are_checked_whatever_is_asked_for() -> None:
    with pytest.raises(ConfigurationError, match="'ranks' is no setting"):
        wanted_axes(sweep(axes={"rank": [1, 2], "ranks": [1, 2]}), "rank")
    with pytest.raises(ConfigurationError, match="a value is there twice"):
        wanted_axes(sweep(axes={"rank": [4, 4]}), "rank")
    with pytest.raises(ConfigurationError, match="two values or more"):
        wanted_axes(sweep(axes={"rank": [4]}), "rank")


def test_alpha_follows_the_rank_unless_it_is_fixed_or_swept() -> None:
    def alphas(axis: str, **values: Any) -> list[int]:
        return [point.job.alpha for point in points(axis, sweep(**values), JOB, SETTINGS)]

    assert alphas("rank", axes={"rank": [4, 16]}) == [8, 32]
    assert alphas("rank", axes={"rank": [4, 16]}, alpha_per_rank=1) == [4, 16]
    assert alphas("rank", axes={"rank": [4, 16]}, alpha_per_rank=None) == [5, 5]
    assert alphas("alpha", axes={"alpha": [3, 7]}) == [3, 7]


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ({"rank": [4, 0]}, "axes.rank.*greater than or equal to 1"),
        ({"learning_rate": [1e-4, "fast"]}, "axes.learning_rate.*valid number"),
        ({"optimizer": ["adamw_torch", "paged_adamw_8bit"]}, "axes.optimizer.*needs use_gpu"),
    ],
)
def test_each_value_must_make_a_whole_job(axes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        points(next(iter(axes)), sweep(axes=axes), JOB, SETTINGS)


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """A Serve file whose engine loads adapters up to rank 64."""
    file = tmp_path / "serve.yaml"
    file.write_text("applications: [{args: {generator: {max_lora_rank: 64}}}]", encoding="utf-8")
    return file


def barred(values: list[int], job: QLoraConfig = JOB, axis: str = "rank", **more: Any) -> list[str]:
    """Why each value cannot win."""
    return [point.barred for point in points(axis, sweep(axes={axis: values}, **more), job, SETTINGS)]


def test_a_rank_above_the_servers_is_tried_and_cannot_win(server: Path) -> None:
    assert barred([16, 64, 128], served_by=server) == ["", "", "tried, not servable (max_lora_rank 64)"]


def test_a_sweep_in_which_nothing_could_win_is_refused(server: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"axes\.rank: every rank is above the max_lora_rank 64 of .*serve"):
        barred([128, 256], served_by=server)
    high = JOB.model_copy(update={"rank": 128})
    with pytest.raises(ConfigurationError, match=r"axes\.learning_rate: every rank is above"):
        barred([1, 2], high, "learning_rate", served_by=server)


def test_the_final_job_does_not_refuse_a_winner(server: Path) -> None:
    """The sweep's own Serve file goes into ``best.yaml``; without one the rule is the job's."""
    winner = points("rank", sweep(axes={"rank": [64, 128]}, served_by=server), JOB, SETTINGS)[0].job
    check_rank(winner, SETTINGS)
    assert winner.served_by == server
    assert barred([16, 32]) == ["", "tried, not servable (max_lora_rank 16)"]
    assert barred([32, 64], JOB.model_copy(update={"served_by": server})) == ["", ""]
    assert barred([32, 256], JOB.model_copy(update={"publish": False})) == ["", ""]


def test_a_pack_refuses_axes_that_need_another_base() -> None:
    packed = sweep(trainable="packed", axes={"attention": ["eager", "sdpa"], "rank": [1, 2]})
    check_packed(["rank", "learning_rate", "ratio", "base_model"], packed)
    with pytest.raises(ConfigurationError, match="attention cannot differ"):
        check_packed(["attention"], packed)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"optimizer": "paged_adamw_8bit", "use_gpu": True},
            "optimizer: .*=paged_adamw_8bit; use trainable=solo, or",
        ),
        ({"gradient_checkpointing": True}, r"training\.trials\.gradient_checkpointing=false"),
        ({"fp16": True, "bf16": False, "use_gpu": True}, r"training\.trials\.fp16=false"),
    ],
)
def test_a_pack_refuses_settings_that_it_would_ignore(change: dict[str, Any], said: str) -> None:
    check_packable(JOB)
    with pytest.raises(ConfigurationError, match=said) as caught:
        check_packable(QLoraConfig(character="haneul", **change))
    assert "\n" not in str(caught.value)


def test_labels_and_folders() -> None:
    assert label(("q_proj", "v_proj")) == "q_proj,v_proj"
    assert label({"version": "haneul@v1"}) == "version=haneul@v1"
    assert folder_name("meta-llama/Llama-3.1-8B") == "meta-llama-Llama-3.1-8B"
    assert folder_name("6:2:2") == "6-2-2"
    assert folder_name("..") == "value"


def test_a_trial_keeps_the_jobs_batch_and_publishes_nothing() -> None:
    job = JOB.model_copy(update={"num_workers": 4, "accumulation": 2, "run_name": "mine", "log_every": 50})
    config = sweep(training={"config": "x.yaml", "trials": {"max_steps": 7, "data": {"count": 40}}}, report_every=5)
    trial = trial_config(job, config, seed=3)
    assert (trial.num_workers, trial.accumulation, trial.seed, trial.max_steps) == (1, 8, 3, 7)
    assert (trial.publish, trial.run_name, trial.save_every, trial.log_every) == (False, None, 5, 5)
    assert trial.data.count == 40


def test_a_trials_setting_that_does_not_exist_is_named() -> None:
    config = sweep(training={"config": "x.yaml", "trials": {"max_step": 7}})
    with pytest.raises(ConfigurationError, match=r"training\.trials.*max_step"):
        trial_config(JOB, config, seed=0)


def test_a_trials_own_accumulation_holds() -> None:
    job = JOB.model_copy(update={"num_workers": 4, "accumulation": 2})
    config = sweep(training={"config": "x.yaml", "trials": {"accumulation": 1}})
    assert trial_config(job, config, seed=0).accumulation == 4


@pytest.mark.parametrize(
    ("axis", "trials", "said"),
    [
        ("rank", {"rank": 4}, "rank is the axis"),
        ("ratio", {"data": {"version": "haneul@v1"}}, "sets the version"),
        ("rank", {"data": 3}, "3 is no settings"),
    ],
)
def test_settings_of_the_trials_alone_do_not_replace_what_is_compared(
    axis: str, trials: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        check_own([axis], sweep(training={"config": "x.yaml", "trials": trials}))
    check_own(["learning_rate"], sweep(training={"config": "x.yaml", "trials": {"max_steps": 4}}))


def test_the_winner_of_alpha_is_not_undone_by_the_axes_after_it() -> None:
    with pytest.raises(ConfigurationError, match=r"alpha_per_rank: .* put alpha last"):
        check_own(["alpha", "learning_rate"], sweep())
    check_own(["learning_rate", "alpha"], sweep())
    check_own(["alpha", "learning_rate"], sweep(alpha_per_rank=None))


def test_a_list_of_bases_can_be_given_on_the_command_line() -> None:
    path = PROJECT_ROOT / "tune_sweeps" / "configs" / "local.yaml"
    config = load_config(SweepConfig, path, ["axes.base_model=[base,.artistmind/models/second]"])
    assert config.axes["base_model"] == ("base", ".artistmind/models/second")
    assert wanted_axes(config, "base_model") == ["base_model"]
    assert "base_model" in wanted_axes(config, "all")


def test_overrides_of_the_training_reach_into_its_parts() -> None:
    overrides = {"data": {"count": 12}, "learning_rate": 1e-5}
    config = sweep(training={"config": "train_jobs/configs/smoke.yaml", "overrides": overrides})
    job = load_training(config, SETTINGS)
    assert (job.data.count, job.learning_rate, job.rank) == (12, 1e-5, 4)


@pytest.mark.parametrize(
    "path", sorted((PROJECT_ROOT / "tune_sweeps" / "configs").glob("*.yaml")), ids=lambda p: p.stem
)
def test_shipped_sweeps_fit_their_training(path: Path) -> None:
    config = load_config(SweepConfig, path)
    training = load_training(config, SETTINGS)
    axes = wanted_axes(config, "all")
    check_packed(axes, config)
    for axis in axes:
        mixed = dict.fromkeys(config.axes["ratio"], "haneul@x")
        found = points(axis, config, training, SETTINGS, mixed)
        jobs = [trial_config(point.job, config, seed) for point in found for seed in config.seeds]
        for job in jobs if runs_packed(axis, config) else []:
            check_packable(job)
        assert len(jobs) == len(config.axes[axis]) * len(config.seeds)
        for point in found:  # the final job takes whatever can win
            if not point.barred:
                check_rank(point.job, SETTINGS)
    assert {"rank", "learning_rate", "ratio", "base_model"} <= set(config.axes)
    assert {"seed", "version"}.isdisjoint(axis_names())
