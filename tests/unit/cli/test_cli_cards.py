"""``artistmind card``: import, export, check."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.cards import folder_problems
from cli.main import app
from core.errors import ConfigurationError, InvalidRequest, NotFound
from core.settings import Settings

EXAMPLES = "<START>\n{{user}}: a\n{{char}}: b"
CARD = {
    "spec": "chara_card_v2",
    "spec_version": "2.0",
    "data": {
        "name": "Mina",
        "first_mes": "Hi {{user}}",
        "mes_example": "<START>\n{{user}}: a\n{{char}}: b",
        "x_own": 1,
    },
}


def card(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["card", *map(str, arguments)])


@pytest.fixture
def cards(tmp_path: Path) -> Path:
    """A folder of characters with Mina in it."""
    (tmp_path / "mina.json").write_text(json.dumps(CARD))
    result = card("import", tmp_path / "mina.json", "--to", tmp_path / "cards")
    assert result.exit_code == 0, result.output
    assert "1 seeds" in result.output
    return tmp_path / "cards"


@pytest.mark.parametrize("format", ["json", "png", "charx"])
def test_a_card_comes_in_and_goes_out_again(cards: Path, tmp_path: Path, format: str) -> None:
    out = tmp_path / f"out.{format}"
    assert card("export", "mina", "--format", format, "--spec", "v2", "--out", out, "--from", cards).exit_code == 0
    assert card("import", out, "--id", "again", "--to", cards).exit_code == 0
    assert card("export", "again", "--format", "json", "--out", tmp_path / "b.json", "--from", cards).exit_code == 0
    data = json.loads((tmp_path / "b.json").read_text(encoding="utf-8"))["data"]
    assert {key: data[key] for key in CARD["data"]} == CARD["data"]


def test_an_imported_character_passes_the_check(cards: Path) -> None:
    result = card("check", "--from", cards)
    assert (result.exit_code, result.output) == (0, "mina: ok\n")


def test_every_broken_file_of_a_folder_is_named(cards: Path) -> None:
    mina = cards / "mina"
    (mina / "seeds.jsonl").write_text(
        '{"id": "a", "category": "b", "messages": [{"role": "user", "content": "c"}]}\n'
    )
    (mina / "intents").mkdir()
    (mina / "intents" / "talk.yaml").write_text("- id: a\n  category: b\n  user: []\n  reply: [x]\n")
    (mina / "knowledge").mkdir()
    (mina / "knowledge" / "bare.md").write_text("no front matter")
    (mina / "knowledge" / "good.md").write_text('---\ntitle: "a"\ncategory: b\n---\ntext')
    (mina / "card.yaml").write_text("id: mina\n")
    expected = ["card.yaml: field 'display_name'", "seeds.jsonl, line 1: field 'messages'", "talk.yaml", "bare.md"]
    for problem, words in zip(folder_problems(mina), expected, strict=True):
        assert words in problem
    result = card("check", "mina", "--from", cards)
    assert result.exit_code == 1
    assert "4 problem(s)" in result.output


def test_what_cannot_be_done_is_our_error(cards: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{}")
    cases = [
        (("import", tmp_path / "bad.json", "--to", cards), InvalidRequest),
        (("import", tmp_path / "mina.json", "--to", cards), ConfigurationError),
        (("import", tmp_path / "mina.json", "--id", "No Id", "--to", cards), InvalidRequest),
        (("export", "nobody", "--from", cards), NotFound),
        (("export", "mina", "--out", tmp_path / "mina.json", "--from", cards), ConfigurationError),
        (("export", "../cards/mina", "--from", cards), NotFound),
    ]
    for arguments, error in cases:
        assert type(card(*arguments).exception) is error, arguments


@pytest.mark.parametrize("name", ["haneul", "kelron"])
def test_shipped_characters_pass_the_check(name: str) -> None:
    assert folder_problems(Settings().resolved(Settings().cards_dir) / name) == []
