from __future__ import annotations

import random
from pathlib import Path

import pytest

from core.settings import get_settings
from train_jobs.reference.dialogues import (
    Composer,
    ContextLines,
    Dialogue,
    Recipe,
    character_rows,
    heldout_prompts,
)
from train_jobs.reference.intents import (
    Intent,
    fill,
    has_final,
    is_held_out,
    load_intents,
    made_up_like,
    training_lines,
)
from train_jobs.reference.voices import Voice, speech_of

RECALL = Intent(
    id="recall_food",
    category="memory",
    context=("{{user}}의 최애 음식은 {food}이다.",),
    user=("내 최애 음식 뭐게", "나 뭐 좋아하게"),
    reply=("{{user}}이 최애는 {food}이지",),
    slots={"food": ("김밥", "만둣국")},
)
HELLO = Intent(id="hello", category="greeting", user=("안녕", "하이", "왔어"), reply=("왔구나", "어서 와"))
VOICE = Voice(name="test", systems=("너는 별이야.",), intents=(RECALL, HELLO))


@pytest.fixture
def card_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "star"
    (folder / "intents").mkdir(parents=True)
    (folder / "card.yaml").write_text('prompt: {persona: " 말투 \\n", safety: "안전\\n"}', encoding="utf-8")
    (folder / "intents" / "a.yaml").write_text(
        "- {id: hi, category: greeting, user: [안녕, 하이, 헬로, 왔다], reply: [어서 와, 왔어]}", encoding="utf-8"
    )
    monkeypatch.setenv("ARTISTMIND_CARDS_DIR", str(tmp_path))
    get_settings.cache_clear()
    yield folder
    get_settings.cache_clear()


def test_rows_depend_on_seed_and_number_alone(card_folder: Path) -> None:
    rows = character_rows("star", 12, seed=3)
    assert rows == character_rows("star", 12, seed=3)
    assert rows[:5] == character_rows("star", 5, seed=3)
    assert rows != character_rows("star", 12, seed=4)


def test_system_prompt_is_persona_then_safety_stripped(card_folder: Path) -> None:
    assert character_rows("star", 1, seed=0)[0]["messages"][0] == {"role": "system", "content": "말투\n안전"}


def test_context_stands_right_before_the_last_user_message() -> None:
    context = ContextLines(fan=("이름: {{user}}",), knowledge=("가", "나"))
    dialogue = Dialogue("말투", ("하나", "둘", "셋", "넷"), context)
    assert [(item.role, item.content) for item in dialogue.messages()] == [
        ("system", "말투"),
        ("user", "하나"),
        ("assistant", "둘"),
        ("system", "[팬]\n이름: {{user}}\n[자료]\n- 가\n- 나"),
        ("user", "셋"),
        ("assistant", "넷"),
    ]


def test_no_second_system_message_without_context() -> None:
    assert [item.role for item in Dialogue("말투", ("하나", "둘")).messages()] == ["system", "user", "assistant"]


def test_memory_facts_stand_under_memory_and_reply_repeats_them() -> None:
    composer = Composer(VOICE, Recipe(made_up=1.0))
    for dialogue in composer.probes(random.Random(1), 8):
        (value,) = dialogue.answer_slots
        assert any(value in line for line in dialogue.context.memories)
        assert value in dialogue.turns[-1]


def test_distractors_never_contradict_the_facts_that_are_asked_for() -> None:
    other = RECALL.model_copy(update={"id": "recall_food_again"})
    composer = Composer(Voice("test", ("말투",), (RECALL, other)), Recipe(distractors=1.0))
    for dialogue in composer.probes(random.Random(2), 20):
        assert len(dialogue.context.memories) == 1


def test_held_out_lines_are_never_trained_on() -> None:
    lines = [f"문장 {number}" for number in range(400)]
    held_out = {line for line in lines if is_held_out(line)}
    assert 2 <= len(held_out) <= 30
    assert not held_out & set(training_lines(lines))
    intent = HELLO.model_copy(update={"user": tuple(lines)})
    composer = Composer(Voice("test", ("말투",), (intent,)), Recipe(noise=0.0))
    said = {composer.dialogue(random.Random(seed)).turns[-2] for seed in range(200)}
    assert not said & held_out
    assert {dialogue.turns[-2] for dialogue in composer.validation(random.Random(0), 20)} <= held_out


def test_heldout_prompts_end_with_the_fan(card_folder: Path) -> None:
    lines = ", ".join(f"문장 {number}" for number in range(200))
    path = card_folder / "intents" / "b.yaml"
    path.write_text(f"- {{id: many, category: everyday, user: [{lines}], reply: [응]}}", encoding="utf-8")
    prompts = heldout_prompts("star", 4)
    assert len(prompts) == 4
    assert all(row["messages"][-1]["role"] == "user" for row in prompts)
    assert all(is_held_out(row["messages"][-1]["content"]) for row in prompts)


def test_fill_leaves_the_user_macro_alone() -> None:
    assert fill("{{user}}아 {food} {other}", {"food": "김밥", "user": "x"}) == "{{user}}아 김밥 {other}"


@pytest.mark.parametrize("value", ["김밥", "우동", "순대", "떡볶이"])
def test_made_up_words_take_the_same_particles(value: str) -> None:
    for seed in range(30):
        assert has_final(made_up_like(value, random.Random(seed))[-1]) == has_final(value[-1])


def test_made_up_numbers_stay_numbers() -> None:
    made = made_up_like("07:20", random.Random(0))
    assert made[2] == ":"
    assert made.replace(":", "").isdigit()


def test_a_file_that_does_not_parse_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("- {id: x, user: [", encoding="utf-8")
    (tmp_path / "good.yaml").write_text("- {id: 1, category: a, user: [12], reply: [네]}", encoding="utf-8")
    assert [intent.user for intent in load_intents(tmp_path)] == [("12",)]


def test_speech_is_told_by_the_endings() -> None:
    assert speech_of(["알겠습니다.", "어디에 계십니까?"]) == "formal"
    assert speech_of(["좋아요!", "그렇죠."]) == "polite"
    assert speech_of(["그래", "고마워 ✨"]) == "casual"
