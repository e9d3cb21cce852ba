from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import ConfigurationError
from safety.policy import load_policies

GOOD = "rules:\n  - {id: rude, category: abuse, sides: [input, output], patterns: ['몹쓸'], unless: ['몹쓸고']}\n"


def folder(tmp_path: Path, default: str = GOOD, **others: str) -> Path:
    for name, text in {"default": default, **others}.items():
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    return tmp_path


def test_the_shipped_policies_load_for_both_characters_and_everybody_else() -> None:
    policies = load_policies()

    assert {"default", "haneul", "kelron"} <= policies.keys()
    assert policies["haneul"].speech is not None
    assert policies["haneul"].speech.level == "banmal"
    assert "meta-self-out" not in {rule.id for rule in policies["kelron"].rules}


def test_a_character_adds_and_disables(tmp_path: Path) -> None:
    own = "disable: [rude]\npii_in_output: [phone]\nrules:\n  - {id: own, category: sexual, patterns: ['꽃']}\n"

    policies = load_policies(folder(tmp_path, mina=own))

    assert [rule.id for rule in policies["mina"].rules] == ["own"]
    assert policies["mina"].pii_in_output == ("phone",)
    assert [rule.id for rule in policies["default"].rules] == ["rude"]


def test_a_benign_phrase_explains_the_word_away_but_not_the_next_one(tmp_path: Path) -> None:
    rule = load_policies(folder(tmp_path))["default"].compiled("input")[0]

    assert rule.find("몹쓸고 갔다") is None
    span = rule.find("몹쓸고 몹쓸")
    assert span is not None
    assert span.start == 4


@pytest.mark.parametrize(
    ("text", "field", "hint"),
    [
        ("rules: [{id: a, category: abuse, patterns: ['(']}]", "rules.0.patterns", "no regular expression"),
        ("rules: [{id: a, category: abuse, patterns: ['x*']}]", "rules.0.patterns", "empty text"),
        ("rules: [{id: a, category: abuse, patterns: ['FOO']}]", "rules.0.patterns", "lower case"),
        ("rules: [{id: a, category: rudeness, patterns: ['x']}]", "rules.0.category", "Correct this field"),
        ("rules: [{id: a, category: abuse, pattern: x}]", "rules.0.patterns", "Field required"),
        ("blocked: []", "blocked", "Extra inputs"),
        ("pii_in_input: [shoe_size]", "pii_in_input.0", "Correct this field"),
    ],
)
def test_a_wrong_field_is_named_with_its_file_and_a_remedy(tmp_path: Path, text: str, field: str, hint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_policies(folder(tmp_path, default=text))

    assert "default.yaml" in str(caught.value)
    assert field in str(caught.value)
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("own", "hint"),
    [("disable: [nothing]", "no default rule"), (GOOD, "stands twice"), ("a: [", "not valid YAML")],
)
def test_a_wrong_override_is_named(tmp_path: Path, own: str, hint: str) -> None:
    with pytest.raises(ConfigurationError, match=hint) as caught:
        load_policies(folder(tmp_path, mina=own))

    assert "mina.yaml" in str(caught.value)


def test_without_a_default_policy_nothing_loads(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Restore it"):
        load_policies(tmp_path)
