"""ASHA as the sweep sets it, fed by hand: who is stopped, and that a resumed sweep decides as a whole one."""

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune import Result

from core.settings import Settings
from train_jobs.qlora.config import QLoraConfig
from tune_sweeps.axes import Point
from tune_sweeps.config import SweepConfig
from tune_sweeps.plan import AxisPlan
from tune_sweeps.records import Trial
from tune_sweeps.tuning import mend, record, scheduler, trial_of

JOB = QLoraConfig(character="haneul")


def asha(barred: str = "", **values: Any) -> Any:
    """The scheduler; ``barred``: names of trials that cannot win."""
    config = SweepConfig.model_validate({"training": {"config": "x.yaml"}, "asha": values})
    trials = tuple(Trial(name=name, value=name, seed=0, config=JOB, barred="not servable") for name in barred)
    plan = AxisPlan("rank", config, JOB, (Point("1", JOB),), trials, {}, {}, Path(Settings().home))
    made = scheduler(plan)
    made.set_search_properties("bits_per_char", "min")
    return made


def points(*losses: float) -> list[dict[str, float]]:
    """Reports at 20, 40, … percent."""
    return [{"progress": 20.0 * place, "bits_per_char": loss} for place, loss in enumerate(losses, 1)]


def trial(name: str, curve: Iterable[dict[str, float]] = ()) -> Any:
    last = {"curve": list(curve)} if curve else {}
    return SimpleNamespace(trial_id=name, config={"trial": name}, last_result=last)


def decisions(made: Any, one: Any, reports: list[dict[str, float]]) -> list[str]:
    found = []
    for report in reports:
        found.append(made.on_trial_result(None, one, report))
        if found[-1] == "STOP":
            break
    return found


def test_who_is_behind_at_a_rung_is_stopped_and_the_last_report_is_no_rung() -> None:
    made = asha(grace=30, reduction_factor=2)
    for name in "abc":
        made.on_trial_add(None, trial(name))
    assert decisions(made, trial("a"), points(3, 2, 1.5, 1.2, 1)) == ["CONTINUE"] * 5
    assert decisions(made, trial("b"), points(9, 8, 7)) == ["CONTINUE", "STOP"]
    assert decisions(made, trial("c"), points(3, 1.9, 1.6, 1.3, 9)) == ["CONTINUE", "CONTINUE", "STOP"]
    last = asha(grace=60)
    last.on_trial_add(None, trial("a"))
    last.on_trial_add(None, trial("b"))
    assert decisions(last, trial("a"), points(3, 2, 1, 1, 1))[-1] == "CONTINUE"
    assert decisions(last, trial("b"), points(3, 2, 0.5, 9, 9)) == ["CONTINUE"] * 5


def test_who_cannot_win_stops_nobody_who_can() -> None:
    made = asha(barred="xy", grace=30, reduction_factor=2)
    for name in "xyab":
        made.on_trial_add(None, trial(name))
    assert decisions(made, trial("x"), points(3, 1)) == ["CONTINUE"] * 2
    assert decisions(made, trial("a"), points(9, 8)) == ["CONTINUE"] * 2
    assert decisions(made, trial("b"), points(9, 9)) == ["CONTINUE", "STOP"]
    assert decisions(made, trial("y"), points(3, 2)) == ["CONTINUE", "STOP"]


def test_a_resumed_sweep_remembers_the_rungs() -> None:
    made = asha(grace=30, reduction_factor=2)
    made.on_trial_add(None, trial("a", points(3, 2, 1.5, 1.2, 1)))
    made.on_trial_add(None, trial("b"))
    assert decisions(made, trial("b"), points(9, 8)) == ["CONTINUE", "STOP"]


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ([5, 6], "5"),  # the newest ones that are kept: the state was only a little late
        ([6], "6"),
        ([6, 7], "6"),
        ([5, 6, 7], "6"),  # it was being deleted
        ([4, 5], "5"),
        ([4], None),
    ],
)
def test_a_checkpoint_that_was_deleted_too_early_is_replaced(
    there: list[int], expected: str | None, tmp_path: Path
) -> None:
    for number in there:
        folder = tmp_path / f"checkpoint_{number:06}"
        folder.mkdir()
        (folder / "what").write_text(str(number), encoding="utf-8")
    named = tmp_path / "checkpoint_000005"
    mend(SimpleNamespace(path=str(named)))
    mend(None)
    found = (named / "what").read_text(encoding="utf-8") if named.is_dir() else None
    assert found == expected


def test_a_checkpoint_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (5, 6, 7):
        folder = tmp_path / f"checkpoint_{number:06}"
        folder.mkdir()
        (folder / "what").write_text(str(number), encoding="utf-8")
    named = tmp_path / "checkpoint_000005"

    def killed(source: Path, target: Path, **_: Any) -> None:
        (target / "half").write_text("half", encoding="utf-8")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("tune_sweeps.tuning.shutil.copytree", killed)
        with pytest.raises(KeyboardInterrupt):
            mend(SimpleNamespace(path=str(named)))
    assert [file.name for file in named.iterdir()] == ["what"]
    mend(SimpleNamespace(path=str(named)))
    assert [(file.name, file.read_text(encoding="utf-8")) for file in named.iterdir()] == [("what", "6")]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"checkpoint_{number:06}" for number in (5, 6, 7)]


def test_a_trial_that_died_before_its_first_report_is_known_by_its_folder(tmp_path: Path) -> None:
    died = Result(
        metrics={}, checkpoint=None, error=RuntimeError("the actor died\nof memory"), path=str(tmp_path / "rank-4-s0")
    )
    assert died.config is None
    found = record(Trial(name=trial_of(died), value="4", seed=0, config=JOB), died)
    assert (found.name, found.status, found.reason) == ("rank-4-s0", "failed", "of memory")


def test_without_asha_every_trial_runs_to_its_end() -> None:
    made = asha(enabled=False)
    assert type(made).__name__ == "FIFOScheduler"
