"""Order of the rows, and what is refused before anything is trained."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from core.errors import ConfigurationError
from train_jobs.packed.settings import SlotSettings
from train_jobs.packed.slot import check_rows, check_state, rows_of_step, target_count
from train_jobs.qlora.data import IGNORED, EncodedRow


def settings(**changes: object) -> SlotSettings:
    given = {"name": "a", "rank": 4, "alpha": 8, "learning_rate": 1e-3, "steps": 2, "rows_per_step": 2} | changes
    return SlotSettings.model_validate(given)


@given(st.integers(1, 20), st.integers(1, 9), st.integers(0, 5), st.integers(1, 3))
def test_every_pass_over_the_data_sees_each_row_once(count: int, per_step: int, seed: int, passes: int) -> None:
    steps = -(-passes * count // per_step)
    seen = [row for step in range(steps) for row in rows_of_step(count, per_step, seed, step)]
    assert len(seen) == steps * per_step
    for begin in range(0, passes * count, count):
        assert sorted(seen[begin : begin + count]) == list(range(count))


def test_the_order_follows_from_the_seed() -> None:
    orders = {rows_of_step(50, 50, seed, step) for seed in range(3) for step in range(2)}
    assert len(orders) == 6


def test_a_first_token_is_never_learned() -> None:
    assert target_count([EncodedRow([], [5, 6, 7], [5, IGNORED, 7]), EncodedRow([], [5], [5])]) == 1


def test_more_passes_than_rows_are_refused() -> None:
    with pytest.raises(ValidationError, match="accumulation: 3 passes"):
        settings(accumulation=3)


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ValidationError):
        settings(lora_rank=3)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (EncodedRow([], [1] * 9, [1] * 9), "training row 1: 9 tokens are more than max_length 8"),
        (EncodedRow([], [1, 2], [1, IGNORED]), "training row 1: no token of it is learned"),
    ],
)
def test_rows_that_cannot_be_learned_are_named(row: EncodedRow, message: str) -> None:
    fine = EncodedRow([], [1, 2], [IGNORED, 2])
    check_rows([fine], "training", 8)
    with pytest.raises(ConfigurationError, match=message):
        check_rows([fine, row], "training", 8)


def test_a_state_of_other_settings_or_data_is_refused() -> None:
    state = {"settings": settings().model_dump(exclude={"name"}), "rows": 7}
    check_state(state, settings(name="another"), 7)
    with pytest.raises(ConfigurationError, match="another learning_rate, rank;"):
        check_state(state, settings(rank=8, learning_rate=1.0), 7)
    with pytest.raises(ConfigurationError, match="of 7 training rows, not of 8"):
        check_state(state, settings(), 8)
