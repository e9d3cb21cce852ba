import re
from pathlib import Path

import pytest
import yaml

from core.errors import ConfigurationError, NotFound
from core.settings import Settings
from personas.loader import PersonaLibrary, load_card

HOTLINE = {"ko": re.compile("109"), "ja": re.compile("0120-279-338|0120-783-556")}
CARDS = Settings().resolved(Settings().cards_dir)


@pytest.mark.parametrize("path", sorted(CARDS.glob("*/card.yaml")), ids=lambda p: p.parent.name)
def test_every_shipped_card_loads_and_answers_every_block(path):
    card = load_card(path)
    expected = {"abuse", "sexual", "demeaning", "personal_data", "jailbreak", "self_harm", "dangerous", "default"}
    assert expected <= set(card.alternatives)
    assert all(HOTLINE[card.language].search(line) for line in card.alternatives["self_harm"])


def test_an_unknown_persona_names_those_there_are():
    with pytest.raises(NotFound, match="haneul"):
        PersonaLibrary(CARDS).get("nobody")


def broken(tmp_path: Path, **change: object) -> Path:
    raw = yaml.safe_load((CARDS / "haneul" / "card.yaml").read_text(encoding="utf-8"))
    path = tmp_path / "haneul" / "card.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(raw | change, allow_unicode=True), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"colour": "blue"}, "colour"),
        ({"alternatives": {"abuse": ["그만"]}}, "alternatives"),
        ({"speech": {"level": "shouting"}}, "speech.level"),
        ({"id": "other"}, "id"),
    ],
)
def test_a_broken_card_is_named_with_file_and_field(tmp_path, change, field):
    with pytest.raises(ConfigurationError) as caught:
        load_card(broken(tmp_path, **change))
    assert "card.yaml" in caught.value.message
    assert f"'{field}'" in caught.value.message
    assert any(remedy in caught.value.message for remedy in ("correct it", "remove it", "make it"))


def test_a_file_that_is_not_yaml_is_named_with_the_place(tmp_path):
    path = tmp_path / "haneul" / "card.yaml"
    path.parent.mkdir()
    path.write_text("id: haneul\nprompt: {persona: [", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"card\.yaml: is not valid YAML \(.*line \d.*correct the syntax"):
        load_card(path)


def test_the_levels_of_all_languages_are_accepted(tmp_path):
    assert load_card(broken(tmp_path, speech={"level": "tameguchi"})).speech.level == "tameguchi"


def test_extensions_are_kept_but_bounded(tmp_path):
    deep: object = 1
    for _ in range(50):
        deep = [deep]
    with pytest.raises(ConfigurationError, match="nested deeper"):
        load_card(broken(tmp_path, extensions={"other/tool": deep}))


def test_a_folder_without_cards_is_an_error(tmp_path):
    with pytest.raises(ConfigurationError, match="ARTISTMIND_CARDS_DIR"):
        PersonaLibrary(tmp_path)
