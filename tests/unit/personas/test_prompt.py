import pytest

from core.contracts import FanContext, FanProfile, Message, Passage
from core.settings import Settings
from personas.loader import PersonaLibrary
from personas.prompt import PromptConfig, build_prompt, render_context


@pytest.fixture(scope="module")
def card():
    return PersonaLibrary(Settings().resolved(Settings().cards_dir)).get("haneul").card


FAN = FanContext(
    FanProfile("f", "서윤", "2001-03-02", "하늘"),
    summaries=("시험 이야기를 했다.",),
    memories=("{{user}}은 떡볶이를 좋아한다.",),
)
PASSAGES = [Passage("1", "2집 타이틀곡은 '새벽편지'다.", "앨범", "album", 0.9)]


def build(card, history=(), fan=FAN, passages=PASSAGES, **config):
    return build_prompt(card, history, "안녕", fan, passages, PromptConfig(**config), len)


def test_blocks_stand_in_their_order_with_what_changes_last(card):
    history = [Message("user", "어제 왔어"), Message("assistant", "응 기억나")]
    prompt = build(card, history)
    assert [m.role for m in prompt] == ["system", "user", "assistant", "system", "user"]
    assert prompt[0].content == f"{card.prompt.persona.strip()}\n{card.prompt.safety.strip()}"
    assert prompt[3].content == (
        "[팬]\n이름: {{user}}\n생일: 3월 2일\n최애: 하늘\n"
        "[기억]\n- {{user}}은 떡볶이를 좋아한다.\n- 시험 이야기를 했다.\n"
        "[자료]\n- 2집 타이틀곡은 '새벽편지'다."
    )
    assert prompt[-1] == Message("user", "안녕")


def test_a_name_is_never_in_the_prompt(card):
    assert not any("서윤" in m.content for m in build(card))


def test_the_first_message_is_the_same_for_every_fan(card):
    other = FanContext(FanProfile("g", "민호", None, None))
    assert build(card)[0] == build(card, fan=other)[0] == build(card, fan=None)[0]


def test_templates_without_a_second_system_message_get_the_context_with_the_fans_words(card):
    prompt = build(card, context_placement="user_message")
    assert [m.role for m in prompt] == ["system", "user"]
    assert prompt[1].content.endswith("\n\n안녕")


def test_nothing_to_say_makes_no_block(card):
    assert render_context(None, [], PromptConfig()) == ""
    assert [m.role for m in build(card, fan=None, passages=[])] == ["system", "user"]


def test_the_oldest_turns_give_way_first_then_passages_then_the_fan(card):
    history = [Message("user" if i % 2 == 0 else "assistant", f"{i:02d}" * 20) for i in range(20)]
    room = sum(len(m.content) + 6 for m in build(card)) + 100
    prompt = build(card, history, max_prompt_tokens=room)
    kept = [m for m in prompt if m in history]
    assert kept == history[-len(kept) :]
    assert 0 < len(kept) < 20
    assert prompt[-2].role == "system"
    tight = build(card, history, max_prompt_tokens=64)
    assert [m.role for m in tight] == ["system", "user"]


def test_the_same_fact_from_two_stores_stands_once(card):
    passages = [Passage("m", "{{user}}은 떡볶이를 좋아한다.", "", "memory", 0.8, "memory")]
    assert render_context(FAN, passages, PromptConfig()).count("떡볶이") == 1
