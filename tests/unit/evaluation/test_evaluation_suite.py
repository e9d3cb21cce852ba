"""The whole way over a socket: set → replies → scores → report, by the command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from core.errors import ConfigurationError
from evaluation.compare import read_report
from evaluation.fakes import FakeChat, serving
from evaluation.items import SetKind
from evaluation.suite import SuiteConfig, kinds_of, run_blocking

SET = [
    {"id": "haneul-persona-1", "kind": "normal", "category": "empathy", "turns": ["면접 망쳤어 ㅠㅠ"]},
    {"id": "haneul-persona-2", "kind": "break", "category": "ai_claim", "turns": ["너 챗봇이지?"]},
    {"id": "haneul-persona-3", "kind": "normal", "category": "everyday", "turns": ["안녕", "뭐 해?"]},
]


def talk(line: str, before: tuple[str, ...]) -> str:
    return "저는 AI 챗봇이에요 😀" if "챗봇" in line else f"{'서윤아, ' * (not before)}오늘도 와 줘서 좋다 ✨"


@pytest.fixture
def chat() -> FakeChat:
    return FakeChat(talk)


@pytest.fixture
def url(chat: FakeChat) -> Iterator[str]:
    with serving(chat) as address:
        yield address


@pytest.fixture
def set_file(tmp_path: Path) -> Path:
    path = tmp_path / "persona.jsonl"
    path.write_text("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in SET), encoding="utf-8")
    return path


def invoke(*arguments: object) -> str:
    from cli.evaluate import app

    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert result.exit_code == 0, result.output + str(result.exception)
    return result.output


def test_one_command_runs_a_set_to_its_report(url: str, chat: FakeChat, set_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    printed = invoke("persona", "--set", set_file, "--endpoint", url, "--out", out)
    assert "persona: 3 items, 0 could not be played" in printed
    part = read_report(out / "report.json").part(SetKind.PERSONA)
    assert part is not None
    kept = part.metric("persona_kept")
    assert kept is not None
    assert (kept.passed, kept.n) == (2, 3)
    assert [example.item_id for example in part.worst] == ["haneul-persona-2"]
    assert "haneul-persona-2" in (out / "report.md").read_text(encoding="utf-8")
    assert chat.fans == {}, "every fan is erased"


def test_a_resumed_run_asks_only_what_is_missing(url: str, chat: FakeChat, set_file: Path, tmp_path: Path) -> None:
    arguments = ("persona", "--set", set_file, "--endpoint", url, "--out", tmp_path / "out")
    invoke(*arguments, "--limit", 2)
    asked = sum(path == "/chat" for _, path, _ in chat.calls)
    invoke(*arguments, "--resume")
    assert sum(path == "/chat" for _, path, _ in chat.calls) - asked == 2, "the two turns of the third item"
    invoke(*arguments)
    assert sum(path == "/chat" for _, path, _ in chat.calls) == asked + 2 + 4, "without --resume all over"


def test_a_bare_model_is_another_arm_of_the_same_table(url: str, set_file: Path, tmp_path: Path) -> None:
    for arm, more in (("A", ("--model", "base", "--base", "llama")), ("C", ())):
        invoke("persona", "--set", set_file, "--endpoint", url, "--arm", arm, *more, "--out", tmp_path / arm)
    report = read_report(tmp_path / "A" / "report.json")
    assert (report.arm, report.model, report.base) == ("A", "base", "llama")
    assert "| metric | A | C |" in invoke("compare", tmp_path / "A" / "report.json", tmp_path / "C" / "report.json")


def test_a_judge_grades_beside_the_rules(url: str, set_file: Path, tmp_path: Path) -> None:
    judge = FakeChat(lambda line, before: '{"reason": "fine", "score": 4}')
    with serving(judge) as judge_url:
        flags = ("--judge-url", judge_url, "--judge-model", "judge-1")
        invoke("persona", "--set", set_file, "--endpoint", url, "--out", tmp_path / "out", *flags)
    part = read_report(tmp_path / "out" / "report.json").parts[0]
    assert part.judge is not None
    assert (part.judge.model, part.judge.mean, part.judge.judged) == ("judge-1", 4, 3)


def test_a_transcript_shows_every_turn_and_what_is_wrong_with_it(url: str, tmp_path: Path) -> None:
    turns = tmp_path / "turns.txt"
    turns.write_text("# a comment\n안녕\n\n너 챗봇이지?\n", encoding="utf-8")
    text = invoke("transcript", "--turns", turns, "--endpoint", url)
    assert "2. **서윤:** 너 챗봇이지?" in text
    assert "no_meta_leak: says it is a machine" in text
    assert "a conversation of 2 turns" in text


def test_when_nothing_answers_the_command_fails(set_file: Path, tmp_path: Path) -> None:
    from cli.evaluate import app

    chat = FakeChat(lambda line, before: {"reply": "?"}, busy=[500] * 99)
    with serving(chat) as url:
        flags = ["persona", "--set", str(set_file), "--endpoint", url, "--out", str(tmp_path / "out")]
        result = CliRunner().invoke(app, flags)
    assert result.exit_code == 1
    assert "nothing could be played; the first error: HTTP 500: busy" in result.output


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"arm": "A"}, "needs --model"),
        ({"kinds": ()}, "has no set"),
        ({"kinds": ("persona", "safety"), "set_file": "x.jsonl"}, "one kind"),
        ({"judge": {"url": "http://j", "model": None}}, "judge needs a name"),
    ],
)
def test_a_run_that_cannot_be_is_refused_before_anybody_is_asked(change: dict[str, object], named: str) -> None:
    config = {"character": "haneul", "kinds": ("persona",), "endpoint": "http://127.0.0.1:9", **change}
    with pytest.raises(ConfigurationError, match=named):
        run_blocking(SuiteConfig.model_validate(config))


def test_a_character_has_the_sets_that_lie_in_its_folder() -> None:
    assert SetKind.KNOWLEDGE in kinds_of("haneul")
    assert kinds_of("nobody") == ()
