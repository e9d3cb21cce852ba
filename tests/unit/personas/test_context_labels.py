import pytest

from core.contracts import FanContext, FanProfile, Passage
from personas.context_labels import labels_for, render_sections
from personas.prompt import PromptConfig, build_prompt, render_context
from personas.schema import Card

FAN = FanContext(FanProfile("f", "서윤", "2001-05-03", "ほたる"), memories=("{{user}}さんは猫が好き。",))
PASSAGES = [Passage("1", "# 番組\n毎週金曜に放送する。", "番組", "radio", 0.9)]
EXPECTED = {
    "ko": "[팬]\n이름: {{user}}\n생일: 5월 3일\n최애: ほたる\n[기억]\n- {m}\n[자료]\n- {k}",
    "ja": "[相手]\n名前: {{user}}\n誕生日: 5月3日\n推し: ほたる\n[記憶]\n- {m}\n[資料]\n- {k}",
    "en": "[USER]\nName: {{user}}\nBirthday: May 3\nFavourite: ほたる\n[MEMORY]\n- {m}\n[DOCUMENTS]\n- {k}",
}


@pytest.mark.parametrize("tag", ["ko", "ko-KR", "ja", "ja_JP", "en", "EN-gb"])
def test_each_language_has_its_own_labels(tag: str) -> None:
    expected = EXPECTED[tag[:2].lower()].replace("{m}", FAN.memories[0]).replace("{k}", "番組 毎週金曜に放送する。")
    assert render_context(FAN, PASSAGES, PromptConfig(), labels_for(tag)) == expected


def test_a_language_without_labels_takes_the_english_ones() -> None:
    assert labels_for("fr") == labels_for("en")


def test_training_renders_the_same_text_from_plain_strings() -> None:
    labels = labels_for("ja")
    lines = labels.fan_lines(FAN.profile)
    served = render_context(FAN, PASSAGES, PromptConfig(), labels)
    assert render_sections(labels, lines, FAN.memories, ["番組 毎週金曜に放送する。"]) == served


def test_sections_that_hold_nothing_are_left_out() -> None:
    assert render_sections(labels_for("ko"), [], [], []) == ""
    assert render_sections(labels_for("ko"), [], ["가", "나"], []) == "[기억]\n- 가\n- 나"


def test_the_cards_language_labels_the_prompt() -> None:
    card = Card.model_validate(
        {
            "id": "hotaru",
            "display_name": "ほたる",
            "language": "ja",
            "speech": {"level": "teinei"},
            "fan_alias": "夜更かしさん",
            "greeting": "こんばんは",
            "prompt": {"persona": "p", "safety": "s"},
            "alternatives": {"default": ["…"]},
            "degraded": ["…"],
        }
    )
    prompt = build_prompt(card, [], "やあ", FAN, PASSAGES, PromptConfig(), len)
    assert prompt[1].content.startswith("[相手]\n名前: {{user}}")
