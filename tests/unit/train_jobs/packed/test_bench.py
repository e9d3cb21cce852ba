"""The benchmark compares like with like: its arms learn the same."""

import math
from collections.abc import Callable

import pytest

from scripts.bench_packed import ARMS, Options, arms, parse, report
from train_jobs.qlora.data import EncodedRow, Split

MakeRows = Callable[[int, int], list[EncodedRow]]


def options(base: str) -> Options:
    given = ["--base", base, "--max-length", "48", "--ranks", "2,8", "--rows", "4", "--steps", "8", "--rounds", "1"]
    return parse([*given, "--attention", "sdpa", "--learning-rate", "0.01", "--threads", "1", "--float32-adapters"])


def test_all_arms_learn_the_same(base: str, make_rows: MakeRows) -> None:
    data = Split(tuple(make_rows(10, 0)), tuple(make_rows(6, 1)), too_long=0)
    wanted = options(base)
    found = {name: [arm(wanted.adapters(rows=4))] for name, arm in arms(wanted, data).items()}
    assert tuple(found) == ARMS
    first = found["pack"][0]
    winner = min(first.losses, key=first.losses.__getitem__)
    for name, (sweep,) in found.items():
        assert all(map(math.isfinite, sweep.losses.values()))
        if name != "pack, halving":
            assert sweep.tokens == first.tokens > 0
            assert sweep.losses == pytest.approx(first.losses, abs=0.01)
    halved = found["pack, halving"][0]
    assert halved.tokens < first.tokens
    assert halved.losses.keys() == first.losses.keys()
    assert halved.losses[winner] <= min(halved.losses.values()) + 0.01
    page = report(wanted, 6, {4: found})
    assert page.count("\n| 4 |") == len(ARMS)
    assert "Halved at 25 % and 50 %; each arm measures 6 held-out conversations" in page
    assert f"`{wanted.command}`" in page


@pytest.mark.parametrize("rungs", ["0", "50,100", "half"])
def test_rungs_are_between_the_first_and_the_last_step(rungs: str) -> None:
    with pytest.raises(SystemExit):
        parse(["--rungs", rungs])
