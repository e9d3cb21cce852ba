from pathlib import Path

import pytest
import yaml

from core.errors import ConfigurationError
from core.settings import PROJECT_ROOT
from loadtest.workload import MessageSource, bare_messages, load_character, load_messages


def test_the_shipped_messages_are_many_and_distinct() -> None:
    messages = load_messages()
    assert len(messages) >= 200
    assert len(set(messages)) == len(messages)


def test_no_message_is_dealt_twice() -> None:
    source = MessageSource([f"m{number}" for number in range(7)])
    dealt = source.take(5) + source.take(44)
    assert len(set(dealt)) == 49
    with pytest.raises(ConfigurationError, match="fewer requests"):
        source.take(1)


def test_the_bare_prompt_is_the_platforms_prompt() -> None:
    # Compared through the package itself: the only place where the two may meet is a test.
    from core.contracts import FanContext
    from personas.loader import load_card
    from personas.prompt import PromptConfig, build_prompt

    cards = PROJECT_ROOT / "personas" / "cards"
    card = load_card(cards / "haneul" / "card.yaml")
    built = build_prompt(card, [], "안녕", FanContext(), [], PromptConfig(), len)
    bare = bare_messages(load_character(cards, "haneul"), "안녕")
    assert bare == [{"role": m.role, "content": m.content} for m in built]


@pytest.mark.parametrize("content", [None, "prompt: [", "prompt: {persona: 1}", "- a list"])
def test_an_unusable_card_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "x").mkdir()
        (tmp_path / "x" / "card.yaml").write_text(content)
    with pytest.raises(ConfigurationError, match=r"x.card\.yaml"):
        load_character(tmp_path, "x")


def test_a_card_gives_prompt_and_sampling(tmp_path: Path) -> None:
    card = {"prompt": {"persona": "P\n", "safety": "S\n"}, "sampling": {"temperature": 0.5, "top_p": 0.8}}
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "card.yaml").write_text(yaml.safe_dump(card))
    character = load_character(tmp_path, "x")
    assert (character.system, character.temperature, character.top_p) == ("P\nS", 0.5, 0.8)
