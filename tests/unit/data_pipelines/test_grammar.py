"""Composed conversations: deterministic, in the prompt's format, and answerable from what they show."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ConfigurationError
from core.settings import get_settings
from data_pipelines.grammar import compose
from data_pipelines.grammar.composer import Composer, first_sentence
from data_pipelines.grammar.dialogue import ContextLines, Dialogue
from data_pipelines.grammar.facts import Fact, Passage, grounded
from data_pipelines.grammar.intents import Exchange, Intent, fill, is_held_out, load_intents, training_lines
from data_pipelines.grammar.made_up import ends_closed, has_final, made_up_like
from data_pipelines.grammar.reading import reading
from data_pipelines.grammar.recipe import Recipe
from data_pipelines.grammar.typed import in_haeyo, typed_in_a_hurry
from data_pipelines.grammar.voices import Voice, character_voice, characters

RECALL = Intent(
    id="recall_food",
    category="memory",
    context=("{{user}}의 최애 음식은 {food:이다/다}.",),
    tell=Exchange(user=("나 {food} 좋아해",), reply=("{food:이구나/구나}",)),
    user=("내 최애 음식 뭐게", "나 뭐 좋아하게"),
    reply=("{{user}}이 최애는 {food:이지/지}",),
    slots={"food": ("김밥", "만두")},
)
HELLO = Intent(id="hello", category="greeting", user=("안녕", "하이", "왔어"), reply=("왔구나", "어서 와"))
VOICE = Voice(name="test", systems=("너는 별이야. 짧게 말해.",), intents=(RECALL, HELLO))

PASSAGES = [
    Passage("album", "「첫 별」은 2023년 3월 2일에 나왔다."),
    Passage("cat", "고양이 구름은 네 살이다."),
    Passage("song", "'반짝'은 타이틀곡이다."),
]
FACTS = [
    Fact(
        doc="album",
        fact="「첫 별」은 3월 2일에 나왔다.",
        gold=("3월 2일",),
        ask=("첫 별 언제 나왔어?",),
        say=("3월 2일이야!",),
    ),
    Fact(doc="cat", fact="구름은 네 살이다.", gold=("네 살",), ask=("구름이 몇 살?",), say=("네 살이야",)),
]


@pytest.fixture
def card_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "star"
    (folder / "intents").mkdir(parents=True)
    source = get_settings().resolved(get_settings().cards_dir) / "haneul" / "card.yaml"
    card = yaml.safe_load(source.read_text(encoding="utf-8"))
    card |= {"id": "star", "prompt": {"persona": " 말투 \n", "safety": "안전\n"}}
    (folder / "card.yaml").write_text(yaml.safe_dump(card, allow_unicode=True), encoding="utf-8")
    (folder / "intents" / "a.yaml").write_text(
        "- {id: hi, category: greeting, user: [안녕, 하이, 헬로, 왔다], reply: [어서 와, 왔어]}", encoding="utf-8"
    )
    monkeypatch.setenv("ARTISTMIND_CARDS_DIR", str(tmp_path))
    get_settings.cache_clear()
    yield folder
    get_settings.cache_clear()


def test_rows_depend_on_seed_and_number_alone(card_folder: Path) -> None:
    rows = compose("star", "persona", 12, seed=3)
    assert rows == compose("star", "persona", 12, seed=3)
    assert rows[:5] == compose("star", "persona", 5, seed=3)
    assert rows != compose("star", "persona", 12, seed=4)


def test_a_kind_without_material_is_an_error_that_names_it(card_folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="safety"):
        compose("star", "safety", 1, seed=0)


def test_rows_have_no_system_prompt_of_the_card(card_folder: Path) -> None:
    rows = compose("star", "persona", 8, seed=0)
    assert not any("말투" in message["content"] for row in rows for message in row["messages"])


def test_system_prompt_is_persona_then_safety_stripped(card_folder: Path) -> None:
    assert character_voice("star").systems == ("말투\n안전",)


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


def test_context_is_labelled_in_the_voice_s_language() -> None:
    dialogue = Dialogue("話し方", ("はい", "どうも"), ContextLines(memories=("猫が好き",)), language="ja")
    assert dialogue.messages()[1].content == "[記憶]\n- 猫が好き"


def test_no_second_system_message_without_context() -> None:
    assert [item.role for item in Dialogue("말투", ("하나", "둘")).messages()] == ["system", "user", "assistant"]


def test_memory_facts_stand_under_memory_and_reply_repeats_them() -> None:
    for dialogue in Composer(VOICE, Recipe(fan_section=0)).probes(random.Random(1), 8)["made_up"]:
        (value,) = dialogue.answer_slots
        assert any(value in line for line in dialogue.context.memories)
        assert value in dialogue.turns[-1]


def test_what_is_told_stands_in_an_earlier_turn_of_the_fan() -> None:
    for dialogue in Composer(VOICE).probes(random.Random(5), 12)["told"]:
        (value,) = dialogue.answer_slots
        assert any(value in turn for turn in dialogue.turns[:-2:2])
        assert value in dialogue.turns[-1]


def test_distractors_never_contradict_the_facts_that_are_asked_for() -> None:
    other = RECALL.model_copy(update={"id": "recall_food_again"})
    composer = Composer(Voice("test", ("말투",), (RECALL, other)), Recipe(distractors=1.0))
    for dialogue in composer.probes(random.Random(2), 20)["known"]:
        assert len(dialogue.context.memories) == 1


def test_held_out_lines_are_never_trained_on() -> None:
    lines = [f"문장 {number}" for number in range(400)]
    held_out = {line for line in lines if is_held_out(line)}
    assert 2 <= len(held_out) <= 30
    assert not held_out & set(training_lines(lines))
    intent = HELLO.model_copy(update={"user": tuple(lines)})
    composer = Composer(Voice("test", ("말투",), (intent,)), Recipe(noise=0.0, polite_users=0.0))
    said = {composer.dialogue(random.Random(seed)).turns[-2] for seed in range(200)}
    assert not said & held_out
    assert {dialogue.turns[-2] for dialogue in composer.validation(random.Random(0), 20)} <= held_out


@given(st.integers(0, 10_000))
def test_an_answer_on_the_knowledge_base_can_be_read_in_its_passages(seed: int) -> None:
    voice = Voice("test", ("말투",), (HELLO,), facts=tuple(grounded(FACTS, PASSAGES)), passages=tuple(PASSAGES))
    found = reading(voice, 1 + seed % 3, made_up=0.5, unanswered=0.0, rng=random.Random(seed))
    assert found.exchanges
    assert found.gold
    assert len(found.passages) <= 3
    assert any(found.gold[0] in passage for passage in found.passages)
    assert found.gold[0] in found.exchanges[-1][1]


def test_an_unanswered_question_has_no_passage_with_the_answer() -> None:
    facts = tuple(grounded(FACTS, PASSAGES))
    voice = Voice("test", ("말투",), (HELLO,), facts=facts, passages=tuple(PASSAGES), unknown=("몰라",))
    for seed in range(30):
        found = reading(voice, 1, made_up=0.0, unanswered=1.0, rng=random.Random(seed))
        ((question, answer),) = found.exchanges
        gold = next(fact.gold[0] for fact in FACTS if question in fact.ask)
        assert answer == "몰라"
        assert not any(gold in passage for passage in found.passages)


def test_a_fact_that_its_document_does_not_hold_is_left_out() -> None:
    wrong = FACTS[0].model_copy(update={"gold": ("4월 1일",)})
    assert grounded([wrong], PASSAGES) == []


def test_fill_leaves_the_user_macro_alone_and_fits_particles() -> None:
    assert fill("{{user}}아 {food} {other}", {"food": "김밥", "user": "x"}) == "{{user}}아 김밥 {other}"
    assert fill("{food:을/를}", {"food": "김밥"}) == "김밥을"
    assert fill("{food:을/를}", {"food": "만두"}) == "만두를"
    towns = ("서울", "부산", "제주", "3일", "'별'")
    assert [fill("{x:으로/로}", {"x": town}) for town in towns] == ["서울로", "부산으로", "제주로", "3일로", "'별'로"]
    assert fill("{n:이야/야}", {"n": "2"}) == "2야"


@pytest.mark.parametrize(
    ("word", "closed"), [("김밥", True), ("만두", False), ("7", True), ("'온도'", False), ("", False)]
)
def test_final_consonants(word: str, closed: bool) -> None:
    assert ends_closed(word) is closed


@pytest.mark.parametrize("value", ["김밥", "우동", "순대", "떡볶이"])
def test_made_up_words_take_the_same_particles(value: str) -> None:
    for seed in range(30):
        assert has_final(made_up_like(value, random.Random(seed))[-1]) == has_final(value[-1])


@given(st.from_regex(r"[1-9]\d{0,3}(월|時|:)[1-9]\d?", fullmatch=True), st.integers(0, 99))
def test_made_up_numbers_keep_their_shape_and_have_no_leading_zero(value: str, seed: int) -> None:
    made = made_up_like(value, random.Random(seed))
    assert re.sub(r"\d", "0", made) == re.sub(r"\d", "0", value)
    assert all(not part.startswith("0") for part in re.findall(r"\d+", made))


def test_made_up_japanese_stays_in_its_script() -> None:
    for seed in range(20):
        assert re.fullmatch(r"[ァ-ヿ]+", made_up_like("コーヒー", random.Random(seed)))
        assert re.fullmatch(r"[一-鿿]+", made_up_like("金沢", random.Random(seed)))


@pytest.mark.parametrize(
    ("casual", "polite"),
    [
        ("오늘 뭐 먹었어?", "오늘 뭐 먹었어요?"),
        ("나 학생이야ㅎㅎ", "나 학생이에요ㅎㅎ"),
        ("이게 뭐야", "이게 뭐예요"),
        ("비 오네~", "비 오네요~"),
        ("힘들지", "힘들죠"),
        ("잘 자", "잘 자"),
        ("피곤하다", "피곤하다"),
        ("", ""),
    ],
)
def test_users_may_be_polite(casual: str, polite: str) -> None:
    assert in_haeyo(casual) == polite


@given(st.text(max_size=40), st.integers(0, 50), st.booleans())
def test_typing_loses_no_letters(line: str, seed: int, playful: bool) -> None:
    typed = typed_in_a_hurry(line, "everyday", playful, random.Random(seed))
    assert len(re.findall(r"\w", typed)) >= len(re.findall(r"\w", line)) - 2


def test_a_file_that_does_not_parse_is_named(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text("- {id: 1, category: a, user: [12], reply: [네]}", encoding="utf-8")
    assert [intent.user for intent in load_intents(tmp_path)] == [("12",)]
    (tmp_path / "bad.yaml").write_text("- {id: x, user: [", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"bad\.yaml"):
        load_intents(tmp_path)


def test_the_first_sentence_of_a_prompt() -> None:
    assert first_sentence("너는 하늘이야. 반말로 말해.") == "너는 하늘이야."
    assert first_sentence("짧게") == "짧게"


@pytest.mark.parametrize("character", characters())
def test_every_shipped_character_can_be_composed(character: str) -> None:
    composer = Composer(character_voice(character))
    for seed in range(20):
        row = composer.dialogue(random.Random(seed)).row()
        assert row["messages"][-1]["role"] == "assistant"
        text = " ".join(message["content"] for message in row["messages"])
        assert not re.search(r"(?<!\{)\{\w+(:[^}]*)?\}(?!\})", text), text
