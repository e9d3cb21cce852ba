"""From scores to figures, and from figures to pages."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ConfigurationError
from evaluation.compare import compare_files
from evaluation.items import SetKind
from evaluation.judge import Judgement
from evaluation.markdown import RULES_ONLY, report_text
from evaluation.replies import Played, Reply
from evaluation.report import Part, Report, build_part, metrics_of
from evaluation.scores import Score
from evaluation.statistics import mean_interval, percentile, wilson


def score(item: str, passed: int, metric: str = "persona_kept", out_of: int = 1, **more: object) -> Score:
    return Score.model_validate({"item_id": item, "metric": metric, "passed": passed, "out_of": out_of, **more})


def played(item: str, text: str = "응", error: str | None = None) -> Played:
    reply = Reply(text=text, total_ms=100, adapter="haneul/v1", degraded=("redis",))
    return Played(item_id=item, fan_name="서윤", asked=(("안녕",),), replies=((reply,),), error=error)


def part(tmp_path: Path, **more: object) -> Part:
    path = tmp_path / "persona.jsonl"
    path.write_text("{}", encoding="utf-8")
    plays = [played("a"), played("b", "저는 AI입니다"), played("c", error="HTTP 503: busy")]
    scores = [
        score("a", 1, groups=("kind=normal",)),
        score("b", 0, groups=("kind=break",), note="says it is a machine"),
    ]
    return build_part(SetKind.PERSONA, path, plays, scores, **more)


def report(arm: str, found: Part) -> Report:
    return Report.model_validate(
        {"character": "haneul", "arm": arm, "endpoint": "http://h", "code_revision": "abc", "parts": (found,)}
    )


def test_wilson_is_what_tables_say() -> None:
    share = wilson(95, 100)
    assert (round(share.value, 3), round(share.low, 3), round(share.high, 3)) == (0.95, 0.888, 0.978)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_interval_holds_its_share_and_stays_between_0_and_1(count: tuple[int, int]) -> None:
    share = wilson(*count)
    assert 0 <= share.low <= share.value + 1e-9
    assert share.value - 1e-9 <= share.high <= 1


def test_a_mean_has_an_interval() -> None:
    mean = mean_interval([4, 5, 3, 4])
    assert (mean.value, round(mean.low, 2), round(mean.high, 2)) == (4, 2.7, 5.3)
    assert mean_interval([3]).low == 3


def test_percentiles_are_values_that_occurred() -> None:
    assert percentile([30, 10, 20], 0.5) == 20
    assert percentile([30, 10, 20], 0.95) == 30
    assert percentile([], 0.5) is None


def test_metrics_are_counted_as_a_whole_and_by_head() -> None:
    found = metrics_of([score("a", 1, groups=("kind=x",)), score("b", 0), score("c", 5, "sentences", 8)])
    assert [(m.name, m.group, m.passed, m.n) for m in found] == [
        ("persona_kept", "all", 1, 2),
        ("persona_kept", "kind=x", 1, 1),
        ("sentences", "all", 5, 8),
    ]


def test_a_metric_without_anything_counted_is_left_out() -> None:
    assert metrics_of([score("a", 0, "sentences", 0)]) == []


def test_items_that_failed_are_in_no_figure(tmp_path: Path) -> None:
    found = part(tmp_path)
    assert (found.items, len(found.errors), found.replies, found.distinct_replies) == (3, 1, 2, 2)
    assert found.adapters == {"haneul/v1": 2}
    assert found.degraded == {"redis": 2}
    assert found.latency.mean == 100
    assert [example.item_id for example in found.worst] == ["b"]


def test_a_judges_failures_are_counted_and_never_scored(tmp_path: Path) -> None:
    judgements = [
        Judgement(item_id="a", score=5),
        Judgement(item_id="b", score=3),
        Judgement(item_id="c", failure="?"),
    ]
    judge = part(tmp_path, judgements=judgements, judge_model="judge-1").judge
    assert judge is not None
    assert (judge.mean, judge.judged, judge.failures, judge.in_character) == (4, 2, 1, 0.5)


def test_a_page_without_a_judge_says_so(tmp_path: Path) -> None:
    text = report_text(report("C", part(tmp_path)))
    assert RULES_ONLY in text
    assert "| persona_kept | 2 | 50.0% | 9.4% to 90.5% | ≥ 95%: missed |" in text
    assert "1 items could not be played" in text
    assert "> character: 저는 AI입니다" in text
    assert str(tmp_path) not in text, "no path of the machine"


def test_a_page_with_a_judge_names_it(tmp_path: Path) -> None:
    judgements = [Judgement(item_id="a", score=5), Judgement(item_id="b", score=4)]
    text = report_text(report("C", part(tmp_path, judgements=judgements, judge_model="judge-1")))
    assert "Judge judge-1: mean 4.50 of 5" in text
    assert RULES_ONLY not in text


def test_reports_stand_side_by_side(tmp_path: Path) -> None:
    paths = []
    for arm in "AC":
        path = tmp_path / f"{arm}.json"
        path.write_text(report(arm, part(tmp_path)).model_dump_json(), encoding="utf-8")
        paths.append(path)
    text = compare_files(paths)
    assert "| metric | A | C |" in text
    assert text.count("50.0% (9.4% to 90.5%) [2]") == 2
    assert "did not ask the same items" not in text


def test_runs_on_different_items_are_marked(tmp_path: Path) -> None:
    one, other = part(tmp_path), part(tmp_path).model_copy(update={"set_hash": "0"})
    paths = [tmp_path / "1.json", tmp_path / "2.json"]
    for path, found in zip(paths, (one, other), strict=True):
        path.write_text(report("C", found).model_dump_json(), encoding="utf-8")
    text = compare_files(paths)
    assert "did not ask the same items" in text
    assert "| metric | C1 | C2 |" in text


@pytest.mark.parametrize("text", ["{}", "no"])
def test_a_file_that_is_no_report_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"x\.json: is no evaluation report"):
        compare_files([path, path])


def test_a_comparison_takes_two() -> None:
    with pytest.raises(ConfigurationError, match="two reports"):
        compare_files([Path("a.json")])
