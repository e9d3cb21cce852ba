"""``artistmind eval`` against the real graph: few items of each set, played, scored and reported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evaluation.compare import read_report
from evaluation.items import SetKind
from evaluation.report import Part, Report
from evaluation.suite import SuiteConfig, run_blocking

SCENARIO = {
    "id": "haneul-memory-e2e",
    "profile": {"name": "{{user}}"},
    "sessions": [
        [{"user": "나는 떡볶이를 진짜 좋아해"}, {"user": "오늘 날씨 어때?"}],
        [{"user": "내가 좋아하는 음식 기억나?", "gold": ["떡볶이"], "kind": "fact", "told": "1.1"}],
    ],
}


def evaluate(graph, out: Path, kind: SetKind, **more: object) -> Report:
    body = {"character": "haneul", "kinds": (kind,), "endpoint": graph.url, "out": out, "concurrency": 2, **more}
    return run_blocking(SuiteConfig.model_validate(body))


def fans(graph) -> int:
    return graph.rows("SELECT count(*) AS n FROM fans WHERE fan_id LIKE 'eval-%%'")[0].n


@pytest.mark.parametrize(
    ("kind", "metric"),
    [(SetKind.PERSONA, "persona_kept"), (SetKind.SAFETY, "attack_stopped"), (SetKind.KNOWLEDGE, "answered")],
)
def test_items_of_a_shipped_set_are_played_and_scored(graph, tmp_path, kind, metric) -> None:
    part = evaluate(graph, tmp_path, kind, limit=4).part(kind)
    assert isinstance(part, Part)
    assert part.errors == ()
    figure = part.metric(metric)
    assert figure is not None
    assert figure.n == 4
    assert all(name.startswith("haneul/") or name == "none" for name in part.adapters), (
        "none: blocked before the model"
    )
    assert read_report(tmp_path / "report.json").part(kind) == part
    assert fans(graph) == 0, "an evaluation leaves nobody behind"


def test_a_scenario_of_two_sessions_waits_for_the_memory(graph, tmp_path) -> None:
    path = tmp_path / "memory.jsonl"
    path.write_text(json.dumps(SCENARIO, ensure_ascii=False) + "\n", encoding="utf-8")
    part = evaluate(graph, tmp_path / "out", SetKind.MEMORY, set_file=path).part(SetKind.MEMORY)
    assert part is not None
    assert (part.errors, part.notes) == ((), ()), "the memory of the first session was there in time"
    recalled = part.metric("recalled", "session=earlier")
    assert recalled is not None
    assert recalled.n == 1
    assert fans(graph) == 0


def test_retrieved_documents_are_named(graph, tmp_path) -> None:
    part = evaluate(graph, tmp_path, SetKind.KNOWLEDGE, limit=10).part(SetKind.KNOWLEDGE)
    assert part is not None
    found = part.metric("document_retrieved")
    assert found is not None, "the final event names its sources"
    assert found.passed > 0
