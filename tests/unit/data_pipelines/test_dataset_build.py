"""A whole build without Ray: the row stages run in this process, the analyser and the tokenizer are stood in for."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from core.errors import ConfigurationError, Unprocessable
from core.settings import PROJECT_ROOT, Settings, get_settings
from data_pipelines import build as builder
from data_pipelines import row_stages
from data_pipelines.build import Result, prepare
from data_pipelines.config import load_preset, parse_config, parse_ratio
from data_pipelines.row_stages import Passage, StageSpec, build_stages, run_row
from data_pipelines.rows import Row
from data_pipelines.stages.base import Outcome
from data_pipelines.stages.speech import Levels
from data_pipelines.store import dataset_store, open_version

WORDS = [
    "연습",
    "노래",
    "고양이",
    "산책",
    "떡볶이",
    "바다",
    "별자리",
    "편지",
    "우산",
    "라디오",
    "기차",
    "창문",
    "구름",
    "사탕",
    "온도",
    "새벽",
]


def compose(character: str, kind: str, count: int, seed: int) -> list[dict[str, Any]]:
    """Row ``i`` depends on its arguments alone; every fourth one is the row before it again."""
    rows = []
    for index in range(count):
        number = (index - index % 4 // 3) * 37 + seed
        said = " ".join(WORDS[(number // 16**place + place) % 16] for place in range(6))
        user = {"role": "user", "content": f"{kind} {said} {number}"}
        reply = {"role": "assistant", "content": f"나는 {said[::-1]} 좋아해 {number}"}
        rows.append({"category": f"{kind}-talk", "messages": [user, reply], "style_tags": []})
    return rows


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    cards = tmp_path / "cards"
    for name in ("haneul", "kelron"):
        (cards / name).mkdir(parents=True)
        shutil.copy(PROJECT_ROOT / "personas" / "cards" / name / "card.yaml", cards / name)
    talk = [{"role": "user", "content": "안녕 하늘아"}, {"role": "assistant", "content": "왔구나, 보고 싶었지롱"}]
    rude = [{"role": "user", "content": "안녕"}, {"role": "assistant", "content": "나는 AI야"}]
    seeds = [{"category": "greeting", "messages": talk}, {"category": "greeting", "messages": rude}]
    text = "\n".join(json.dumps(seed, ensure_ascii=False) for seed in seeds)
    (cards / "haneul" / "seeds.jsonl").write_text(text, encoding="utf-8")
    monkeypatch.setenv("ARTISTMIND_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ARTISTMIND_CARDS_DIR", str(cards))
    get_settings.cache_clear()
    yield get_settings()
    get_settings.cache_clear()


@pytest.fixture(autouse=True)
def _light(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_here(rows: Sequence[Row], spec: StageSpec, workers: int) -> list[Passage]:
        stages = build_stages(spec)
        return [run_row(row, stages) for row in reversed(rows)]

    @contextmanager
    def no_ray(workers: int) -> Iterator[None]:
        yield

    monkeypatch.setattr(builder, "run_rows", run_here)
    monkeypatch.setattr(builder, "connected", no_ray)
    monkeypatch.setattr(builder, "EVALUATION", Path("no-evaluation"))
    for module in (builder, row_stages):
        monkeypatch.setattr(module, "level_measure", lambda level: lambda text: Levels(1, 1))
    monkeypatch.setattr(row_stages.rendering, "load_tokenizer", lambda base: None)
    monkeypatch.setattr(row_stages.rendering, "rendering", lambda *arguments: Outcome.keep)


def make(settings: Settings, version: str | None = None, **values: Any) -> Result:
    given = {"character": "haneul", "counts": {"persona": 60, "worldview": 20, "safety": 20}, **values}
    return prepare(parse_config(given, "test"), settings, version, compose).run()


def test_a_version_holds_what_was_wanted_and_says_where_it_comes_from(settings: Settings) -> None:
    manifest = make(settings).manifest
    assert manifest.name == "haneul@v1"
    assert manifest.kinds == {"persona": 60, "safety": 20, "worldview": 20}
    assert {split: record.rows for split, record in manifest.splits.items()} == {"train": 90, "validation": 10}
    assert [source.source for source in manifest.sources] == ["seeds", "facts", "grammar"]
    assert manifest.shortfall == {}
    stages = {stage.stage: stage for stage in manifest.stages}
    assert stages["meta_talk"].dropped == {"meta_leak: meta-self-out": 1}
    assert stages["duplicates"].rows_in == stages["rendering"].rows_out
    assert stages["mixing"].rows_out == manifest.rows == 100
    assert str(settings.home_dir) not in manifest.model_dump_json()


def test_the_same_inputs_give_the_same_hash_and_another_seed_another(settings: Settings) -> None:
    first, second = make(settings), make(settings, workers=7)
    assert first.manifest.content_hash == second.manifest.content_hash
    assert make(settings, seed=5).manifest.content_hash != first.manifest.content_hash


def test_the_pages_for_people_are_there(settings: Settings) -> None:
    folder = make(settings).folder
    report = (folder / "quality_report.md").read_text(encoding="utf-8")
    assert "### meta_talk: meta_leak" in report
    assert "나는 AI야" in report
    assert "content hash" in (folder / "README.md").read_text(encoding="utf-8").casefold()
    assert len((folder / "review_sample.jsonl").read_text(encoding="utf-8").splitlines()) == 10
    assert (folder / "review_sample.md").read_text(encoding="utf-8").count("- [ ]") == 10


def test_more_is_composed_until_enough_passes(settings: Settings) -> None:
    one_round = make(settings, sources={"grammar": {"oversample": 1.0, "max_rounds": 1}}).manifest
    assert one_round.shortfall
    more_rounds = make(settings, sources={"grammar": {"oversample": 1.0, "max_rounds": 4}}).manifest
    assert more_rounds.shortfall == {}


def test_many_facts_leave_room_for_what_the_grammar_composes(settings: Settings) -> None:
    asks = [f"{word} {other} 몇 개야?" for word in WORDS for other in WORDS[:4]]
    entry = {"doc": "d", "fact": "다섯 개다.", "gold": ["다섯"], "ask": asks, "say": ["다섯 개지롱"]}
    path = settings.resolved(settings.cards_dir) / "haneul" / "facts.yaml"
    path.write_text(json.dumps([entry], ensure_ascii=False), encoding="utf-8")
    make(settings)
    sources = {row.dataset_source for row in open_version("haneul@v1").rows("train") if row.kind == "worldview"}
    assert sources == {"facts", "grammar"}


def test_what_cannot_be_had_is_said_or_refused(settings: Settings) -> None:
    alone = {"grammar": {"enabled": False}}
    assert make(settings, sources=alone).manifest.shortfall == {"persona": 59, "worldview": 20, "safety": 20}
    with pytest.raises(Unprocessable, match="short of 59 of persona"):
        make(settings, sources=alone, strict=True)
    with pytest.raises(Unprocessable, match="no row passed"):
        make(settings, sources={**alone, "seeds": False})
    assert dataset_store(settings).names() == ["haneul@v1"]


def test_a_ratio_divides_the_rows_anew(settings: Settings) -> None:
    assert make(settings, ratio=parse_ratio("7:2:1")).manifest.kinds == {"persona": 70, "safety": 10, "worldview": 20}


def test_a_build_goes_on_from_an_earlier_version(settings: Settings) -> None:
    first = make(settings).manifest
    second = make(settings, sources={"parents": ["haneul@v1"]}).manifest
    assert second.parents == {"haneul@v1": first.content_hash}


def test_a_file_of_the_evaluation_is_refused(settings: Settings) -> None:
    path = PROJECT_ROOT / "evaluation" / "sets" / "anything.jsonl"
    with pytest.raises(ConfigurationError, match="never be trained on"):
        make(settings, sources={"files": [{"path": str(path), "licence": "x"}]})


def test_money_is_not_spent_without_a_yes(settings: Settings) -> None:
    generated = {"base_url": "http://127.0.0.1:9/v1", "model": "m", "usd_per_million_out": 10}
    with pytest.raises(ConfigurationError, match=r"20 requests .* nothing was sent: say --yes"):
        make(settings, sources={"generated": generated})


def test_a_build_that_breaks_leaves_no_version(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> str:
        raise RuntimeError("no page today")

    monkeypatch.setattr(builder, "quality_report", broken)
    with pytest.raises(RuntimeError):
        make(settings)
    assert list((dataset_store(settings).root / "haneul").iterdir()) == []


@pytest.mark.parametrize("character", ["haneul", "mir", "hotaru", "kelron"])
def test_the_shipped_presets_are_valid(character: str) -> None:
    assert load_preset(character).character == character


@pytest.mark.parametrize("text", ["6:2", "a:b:c", "6:2:2:1", "-1:1:1", ""])
def test_a_ratio_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="a ratio is written"):
        parse_ratio(text)


def test_wrong_settings_are_named(tmp_path: Path) -> None:
    path = tmp_path / "preset.yaml"
    path.write_text("character: haneul\ncounts: {persona: 1}\nfilters: {max_chras: 9}\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"filters\.max_chras"):
        load_preset("haneul", path=path)
    with pytest.raises(ConfigurationError, match="there are: haneul"):
        load_preset("nobody")


def test_the_module_says_what_is_wrong_in_one_line(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert builder.main(["haneul", "--ratio", "6:2"]) == 2
    assert capsys.readouterr().err.startswith("error: '6:2'")


def test_the_commands_list_show_diff_and_trace(settings: Settings) -> None:
    from cli.data import app

    make(settings), make(settings, seed=1)
    runner = CliRunner()
    assert "haneul@v2" in runner.invoke(app, ["list"]).output
    shown = runner.invoke(app, ["show", "haneul@v1"]).output
    assert "100 rows" in shown
    assert "checked" in shown
    assert "seed: 0 → 1" in runner.invoke(app, ["diff", "haneul@v1", "haneul@v2"]).output
    assert "no data set version holds rows" in runner.invoke(app, ["trace", "c-9"]).output
    assert isinstance(runner.invoke(app, ["show", "haneul@v9"]).exception, ConfigurationError)


def test_a_version_is_opened_by_name(settings: Settings) -> None:
    made = make(settings)
    dataset = open_version("haneul@v1")
    assert dataset.manifest == made.manifest
    assert len(dataset.rows("train")) == 90
