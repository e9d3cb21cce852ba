"""The report: everything the choice follows from is in it, and ``best.yaml`` is a job."""

import json
import re
from pathlib import Path

import pytest

from core.errors import TrainingDiverged
from train_jobs.config import load_config
from train_jobs.qlora.config import QLoraConfig
from train_jobs.qlora.data import EncodedRow
from tune_sweeps.config import Rule
from tune_sweeps.history import History
from tune_sweeps.plots import CURVES, RANK_MEMORY, _curves, draw
from tune_sweeps.records import CurvePoint, Measurement, Trial, TrialData, TrialRecord
from tune_sweeps.report import candidates, report_page, summary_page, write_best, write_trials
from tune_sweeps.score import Share, choose
from tune_sweeps.tuning import reason

JOB = QLoraConfig(character="haneul", run_name="mine", data={"version": "haneul@v1.6-2-2.n60"}, learning_rate=1e-5)


def record(value: str, seed: int = 0, status: str = "finished", bits: float = 2.0, **more: object) -> TrialRecord:
    curve = [
        CurvePoint(
            step=step,
            progress=10.0 * step,
            validation_loss=bits + 1,
            bits_per_char=bits,
            seconds=6.0 * step,
            memory_mib=10.0 * int(value),
        )
        for step in ((5, 10) if status == "finished" else (5,))
    ]
    values = {"name": f"rank-{value}-s{seed}", "value": value, "seed": seed, "status": status, "curve": curve}
    return TrialRecord.model_validate({**values, **more})


def measured(one: TrialRecord, bits: float) -> Measurement:
    return Measurement(
        trial=one.name,
        losses=(bits, bits + 1, bits + 2),
        sentences_kept=9,
        sentences_judged=10,
        replies_kept=3,
        replies=("a", "b", "c", "d"),
    )


RECORDS = [
    record("16"),
    record("16", seed=1),
    record("32", bits=1.0),
    record("32", seed=1, bits=1.0),
    record("64", status="stopped"),
    record("128", status="failed", reason="OutOfMemoryError: no | room"),
]
MEASURED = {one.name: measured(one, one.curve[-1].bits_per_char) for one in RECORDS if one.status == "finished"}


def test_seeds_of_a_value_become_one_candidate_and_unfinished_ones_none() -> None:
    first, second = candidates(RECORDS, MEASURED)
    assert (first.value, first.losses) == ("16", {0: (2.0, 3.0, 4.0), 1: (2.0, 3.0, 4.0)})
    assert (first.speech, first.persona, first.memory_mib, first.seconds) == (Share(18, 20), Share(6, 8), 160.0, 60.0)
    assert (second.value, second.order, second.loss) == ("32", 1, 2.0)


def test_the_choice_can_be_worked_out_from_the_table() -> None:
    page = report_page("Sweep x: rank", "rank", RECORDS, choose(candidates(RECORDS, MEASURED), Rule()), Rule(), ())
    assert "**Best: rank = 32.**" in page
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("|")]
    standings = {row[0]: row for row in rows if len(row) == 9 and row[0] in ("16", "32")}
    gates = [float(found) for found in re.findall(r"in less than ([\d.]+)%", page)]
    margin = float(re.search(r"The margin is ([\d.]+)", page)[1])  # type: ignore[index]  # no match fails the test
    passed = {
        value: float(row[2])
        for value, row in standings.items()
        if _percent(row[4]) >= gates[0] and _percent(row[5]) >= gates[1]
    }
    tied = [value for value, behind in passed.items() if behind <= margin]
    assert min(tied, key=lambda value: float(standings[value][6])) == "32"
    assert "| rank-64-s0 | 50 % | 3.0000 | 0.5 | stopped by ASHA |" in page
    assert "| rank-128-s0 | 50 % | 3.0000 | 0.5 | failed: OutOfMemoryError: no ¦ room |" in page
    assert "| 32 | 320.0 |" in page.split("## Rank against memory")[1]


def _percent(cell: str) -> float:
    return float(cell.partition("%")[0])


def test_a_rank_that_the_server_does_not_load_is_reported_and_does_not_win() -> None:
    said = "tried, not servable (max_lora_rank 16)"
    records = [record("16"), record("32", bits=1.0, barred=said), record("64", status="stopped", barred=said)]
    found = candidates(records, {one.name: measured(one, one.curve[-1].bits_per_char) for one in records})
    page = report_page("Sweep x: rank", "rank", records, choose(found, Rule()), Rule(), ())
    assert "**Best: rank = 16.** It is the only one that can win" in page
    assert re.search(rf"^\| 32 \| 2\.0000 \| -1\.0000 .* \| {re.escape(said)} \|$", page, re.MULTILINE)
    assert f"| rank-64-s0 | 50 % | 3.0000 | 0.5 | stopped by ASHA; {said} |" in page
    assert "4. What is not servable has no part" in page


def test_who_finished_fewer_seeds_is_reported_and_does_not_win() -> None:
    records = [one for one in RECORDS if one.name != "rank-32-s1"]
    page = report_page("Sweep x: rank", "rank", records, choose(candidates(records, MEASURED), Rule()), Rule(), ())
    assert "**Best: rank = 16.** It is the only one that can win" in page
    assert re.search(r"^\| 32 \| 2\.0000 .* \| fewer seeds finished \|$", page, re.MULTILINE)
    assert "4. Who finished fewer seeds" in page


def test_a_sweep_in_which_nothing_finished_says_so() -> None:
    page = report_page("Sweep x: rank", "rank", RECORDS[4:], None, Rule(), ())
    assert "nothing was chosen" in page
    assert "OutOfMemoryError" in page


def test_best_is_a_job_that_the_final_job_takes(tmp_path: Path) -> None:
    write_best(tmp_path / "best.yaml", "winner", JOB)
    found = load_config(QLoraConfig, tmp_path / "best.yaml")
    assert found == JOB.model_copy(update={"run_name": None})
    assert not list(tmp_path.glob("*.part"))


def test_trials_are_one_line_each_with_their_settings(tmp_path: Path) -> None:
    trials = [Trial(name=one.name, value=one.value, seed=one.seed, config=JOB) for one in RECORDS]
    write_trials(tmp_path, trials, RECORDS)
    lines = [json.loads(line) for line in (tmp_path / "trials.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["status"] for line in lines] == ["finished"] * 4 + ["stopped", "failed"]
    assert QLoraConfig.model_validate(lines[0]["config"]) == JOB
    assert [point["step"] for point in lines[0]["curve"]] == [5, 10]


def test_pictures_are_written_where_they_can_be_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert draw(tmp_path, "rank", RECORDS) == (CURVES, RANK_MEMORY)
    assert draw(tmp_path, "learning_rate", RECORDS) == (CURVES,)
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in (CURVES, RANK_MEMORY))


def test_a_value_has_its_legend_entry_also_when_its_first_seed_has_no_curve() -> None:
    figure = pytest.importorskip("matplotlib.figure")
    lost = record("16", status="failed", curve=[])
    made = _curves(figure.Figure, [lost, record("16", seed=1), record("32"), record("32", seed=1)])
    texts = [text.get_text() for text in made.axes[0].get_legend().get_texts()]
    assert texts == ["16 (finished)", "32 (finished)"]


def test_the_summary_names_each_winner() -> None:
    page = summary_page("Sweep x", {"learning_rate": "0.0002", "rank": "32"})
    assert "| rank | 32 | [report](rank/report.md) |" in page


def test_the_reason_of_a_failure_is_its_last_line() -> None:
    assert (
        reason(RuntimeError("ray::solo_trial()\n  File x\nValueError: no such layer\n"))
        == "ValueError: no such layer"
    )
    assert reason(RuntimeError("core.errors.TrainingDiverged: step 2: no number")) == "step 2: no number"
    assert reason(RuntimeError()) == "RuntimeError"


def test_a_history_goes_on_where_the_checkpoint_was(tmp_path: Path) -> None:
    first = History()
    first.add(CurvePoint(step=5, progress=50, validation_loss=2, bits_per_char=1, seconds=40))
    first.write(tmp_path)
    again = History.of(str(tmp_path))
    assert (again.step, again.seconds) == (5, 40)
    assert 40 <= again.clock() < 60
    again.add(CurvePoint(step=10, progress=100, validation_loss=1, bits_per_char=0.5, seconds=80))
    report = again.metrics()
    assert ([point["step"] for point in report["curve"]], report["step"]) == ([5, 10], 10)
    assert (first.complete, again.complete) == (False, True)


def test_a_loss_that_is_no_number_fails_the_trial() -> None:
    with pytest.raises(TrainingDiverged, match="step 5: the validation loss is nan"):
        History().add(CurvePoint(step=5, progress=50, validation_loss=float("nan"), bits_per_char=1, seconds=1))


def test_bits_per_character_do_not_depend_on_the_tokenizer() -> None:
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "12345678"}]
    coarse = TrialData((), (EncodedRow(messages, [1, 2, 3], [-100, 2, 3]),), ())
    fine = TrialData((), (EncodedRow(messages, [1, 2, 3, 4, 5], [-100, 2, 3, 4, 5]),), ())
    assert coarse.bits_per_char(2.0) == pytest.approx(fine.bits_per_char(1.0))
