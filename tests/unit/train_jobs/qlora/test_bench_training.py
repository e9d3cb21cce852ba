"""The training benchmark counts what it says: steps from logs, ratios within a round, the same rows in the arms."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core.errors import ConfigurationError
from loadtest.machine import describe_machine
from scripts.bench_report import spread, turn_order
from scripts.bench_training import Target, drawn, padding, parse, part_of, report
from scripts.training_arms import ARMS, JOB, PACKED, RAY, TRL, Run, Step, Training, job_steps, run_of, trl_steps
from train_jobs.qlora.data import EncodedRow, Split

JOB_LOG = [
    {"eval_loss": 3.0, "eval_num_tokens": 0},
    {"loss": 2.0, "tokens": 100.0, "tokens_per_s": 50.0},
    {"loss": 1.9, "tokens": 160.0, "tokens_per_s": 120.0},
    {"eval_loss": 1.8, "eval_num_tokens": 160},
    {"train_runtime": 9.0, "train_loss": 1.9},
]


def rows(count: int) -> tuple[EncodedRow, ...]:
    return tuple(EncodedRow([], [index], [index]) for index in range(count))


def run(tokens: int, seconds: float) -> Run:
    return Run((Step(tokens, seconds),) * 2, around_s=4.0, between_s=1.0)


def test_steps_are_read_from_both_logs() -> None:
    expected = (Step(100, 2.0), Step(60, 0.5))
    assert job_steps(JOB_LOG) == expected
    log = [{"loss": 2.0, "num_tokens": 100}, {"loss": 1.9, "num_tokens": 160}, {"train_runtime": 9.0}]
    assert trl_steps(log, [2.0, 0.5]) == expected


def test_first_steps_and_the_time_around_are_not_counted() -> None:
    found = run_of(Training(job_steps(JOB_LOG), loop_s=9.0), warm_up=1, total_s=21.0)
    assert (found.tokens, found.step_s, found.tokens_per_s) == (60, 0.5, 120.0)
    assert (found.around_s, found.between_s) == (12.0, 6.5)


def test_ratios_are_taken_within_a_round() -> None:
    found = {JOB: [run(100, 1.0), run(100, 2.0), run(100, 4.0)], RAY: [run(100, 1.02), run(100, 2.02), run(100, 4.4)]}
    row = Target("added", RAY, JOB, most=0.03).row(found)
    assert "+2.0 % (+1.0–+10.0) | ≤ 3 % | met" in row
    assert "**missed**" in Target("speed", RAY, JOB, least=1.0).row(found)


def test_an_arm_that_reaches_its_ratio_has_met_its_target() -> None:
    found = {PACKED: [run(300, 1.0)], JOB: [run(200, 1.0)]}
    assert "1.50 × (1.50–1.50) | ≥ 1.5 × | met" in Target("packed", PACKED, JOB, least=1.5).row(found)


def test_a_part_is_drawn_by_the_seed_and_too_little_data_is_refused() -> None:
    part = part_of(Split(rows(30), rows(20), too_long=1), rows=10, seed=3)
    assert part.train == drawn(rows(30), 10, seed=3) != rows(10)
    assert len({row.input_ids[0] for row in part.train}) == 10
    assert len(part.validation) == 8
    with pytest.raises(ConfigurationError, match="needs 31 conversations and there are 30"):
        part_of(Split(rows(30), rows(20), too_long=0), rows=31, seed=3)


def test_settings_of_the_measurement_stay_whatever_the_overrides_say() -> None:
    options = parse(["packing=true", "--steps", "5", "rank=4", "--warm-up", "2", "max_steps=900"])
    config = options.settings()
    assert (config.packing, config.max_steps, config.save_every, config.rank) == (False, 7, 7, 4)
    assert not config.publish
    assert options.command == (
        "python -m scripts.bench_training packing=true --steps 5 rank=4 --warm-up 2 max_steps=900"
    )


@pytest.mark.parametrize("wrong", [["--steps", "0"], ["--warm-up", "-1"], ["--rounds", "0"]])
def test_numbers_that_are_too_small_are_refused(wrong: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="at least"):
        parse(wrong)


def test_what_cannot_run_without_ray_train_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="deepspeed_stage"):
        parse(["deepspeed_stage=2"]).settings()


def test_the_page_shows_every_arm_and_only_the_targets_that_can_be_judged(tmp_path: Path) -> None:
    options = parse(["--out", str(tmp_path / "page.md"), f"base_model={tmp_path}/base"])
    found = {arm: [run(100, 1.0), run(100, 1.1)] for arm in ARMS}
    packed: Any = SimpleNamespace(config=options.settings(), split=Split(rows(4), (), too_long=0))
    page = report(options, {PACKED: packed}, describe_machine({}), found)
    assert all(page.count(f"\n| {arm} |") == 2 for arm in ARMS)
    assert (page.count("| met |"), page.count("**missed**")) == (2, 1)
    assert "`base` in 4 bits" in page
    alone = report(options, {PACKED: packed}, describe_machine({}), {TRL: found[TRL], PACKED: found[PACKED]})
    assert (alone.count("| met |"), alone.count("**missed**")) == (0, 0)


def test_padding_is_what_the_longest_row_of_a_batch_adds() -> None:
    assert padding([1, 3, 2, 2, 5], 2) == 1 - 13 / 15
    assert padding([2, 2], 4) == 0


def test_each_round_another_arm_begins() -> None:
    assert [turn_order("abc", turn) for turn in range(4)] == [list("abc"), list("bca"), list("cab"), list("abc")]


def test_the_spread_is_median_lowest_highest() -> None:
    assert spread([3.0, 1.0, 2.0], ".1f", " s") == "2.0 s (1.0–3.0)"
