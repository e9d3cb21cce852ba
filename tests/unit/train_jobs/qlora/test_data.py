"""Conversations for fine-tuning: reading, masks, hashes and the split."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ConfigurationError
from core.settings import get_settings
from data_pipelines.rows import Row, make_row
from train_jobs.qlora.config import QLoraConfig
from train_jobs.qlora.data import (
    IGNORED,
    Conversations,
    check_mask,
    composed_rows,
    encode,
    load_conversations,
    prepare_split,
    read_rows,
    rows_hash,
    split_rows,
    training_template,
)

BASE = Path(__file__).parents[4] / "models" / "base"
END = 2


def row(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(BASE)


def test_read_rows_skips_blank_lines_and_other_fields(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"id": 1, "messages": row("안녕", "안녕!")}) + "\n\n", encoding="utf-8")
    assert read_rows(path) == [row("안녕", "안녕!")]


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[]",
        '{"messages": []}',
        '{"messages": 3}',
        '{"messages": [{"role": "user", "content": "x"}]}',
        '{"messages": [{"role": "robot", "content": "x"}, {"role": "assistant", "content": "y"}]}',
        '{"messages": [{"role": "assistant", "content": 3}]}',
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"messages": row("a", "b")}) + "\n" + line, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"rows\.jsonl:2: "):
        read_rows(path)


def test_the_hash_follows_the_content_not_the_order_of_keys() -> None:
    rows = [row("a", "b"), row("c", "d")]
    turned = [[dict(reversed(message.items())) for message in messages] for messages in rows]
    assert rows_hash(rows) == rows_hash(turned)
    assert rows_hash(rows) != rows_hash(rows[::-1])
    assert rows_hash(rows) != rows_hash([row("a", "b"), row("c", "e")])


def test_composed_rows_have_the_same_hash_each_time() -> None:
    assert rows_hash(composed_rows("haneul", 5, 1)) == rows_hash(composed_rows("haneul", 5, 1))
    assert rows_hash(composed_rows("haneul", 5, 1)) != rows_hash(composed_rows("haneul", 5, 2))


texts = st.text(alphabet="가나다라", min_size=1, max_size=3)


@given(st.lists(st.builds(row, texts, texts), max_size=40), st.floats(0.05, 0.95), st.integers(0, 9))
def test_the_split_keeps_every_conversation_and_puts_equal_ones_on_one_side(
    rows: list[list[dict[str, str]]], share: float, seed: int
) -> None:
    train, validation = split_rows(rows, share, seed)
    assert sorted(map(str, train + validation)) == sorted(map(str, rows))
    assert not set(map(str, train)) & set(map(str, validation))


def test_the_split_has_about_the_share_asked_for() -> None:
    rows = [row(str(number), "응") for number in range(2000)]
    assert 150 < len(split_rows(rows, 0.1, 0)[1]) < 250
    assert split_rows(rows, 0.1, 0) != split_rows(rows, 0.1, 1)


def test_only_the_assistants_words_and_ends_are_learned(tokenizer: Any) -> None:
    messages = [{"role": "system", "content": "반말로."}, *row("안녕", "어서 와!"), *row("뭐 해?", "노래해")]
    encoded = encode(tokenizer, training_template(tokenizer), messages)
    learned = tokenizer.decode([label for label in encoded.labels if label != IGNORED])
    assert learned.replace(" ", "") == "어서와!<|im_end|>노래해<|im_end|>"
    assert len(encoded.labels) == len(encoded.input_ids)


def test_a_template_that_leaves_the_end_of_turn_out_is_refused(tokenizer: Any) -> None:
    spoilt = training_template(tokenizer).replace(
        "{{- message['content'] + '<|im_end|>' -}}\n{%- endgeneration -%}",
        "{{- message['content'] -}}\n{%- endgeneration -%}\n{{- '<|im_end|>' -}}",
    )
    with pytest.raises(ConfigurationError, match="end-of-turn"):
        encode(tokenizer, spoilt, row("안녕", "응"))


def test_an_empty_mask_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no assistant token"):
        check_mask([5, 6, END], [0, 0, 0], END)


def test_every_turn_must_learn_to_stop() -> None:
    check_mask([5, 6, END, 7, 8, END], [0, 1, 1, 0, 1, 1], END)
    with pytest.raises(ConfigurationError, match="end-of-turn"):
        check_mask([5, 6, END, 7, 8, END], [0, 1, 0, 0, 1, 1], END)


def test_a_turn_that_is_not_marked_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="only 1 of 2 assistant turns"):
        check_mask([5, 6, END, 7, 8, END], [0, 0, 0, 0, 1, 1], END, turns=2)


def test_a_conversation_that_cannot_be_learned_is_named(tokenizer: Any) -> None:
    spoilt = Conversations([row("안녕", "응"), [{"role": "user", "content": "혼자"}]], [row("또", "응")], "rows", "0")
    with pytest.raises(ConfigurationError, match="data: conversation 1: a conversation has no assistant token"):
        prepare_split(tokenizer, spoilt, max_length=64)


def test_long_conversations_are_counted_and_left_out_whole(tokenizer: Any) -> None:
    rows = [row(f"질문 {number}", "짧은 답") for number in range(40)] + [row("길게", "아주 긴 답 " * 40)] * 3
    split = prepare_split(tokenizer, Conversations(*split_rows(rows, 0.2, 0), "rows", "0"), max_length=40)
    assert split.too_long == 3
    assert len(split.train) + len(split.validation) == 40
    assert all(len(encoded.input_ids) <= 40 for encoded in (*split.train, *split.validation))


def test_a_side_without_conversations_is_refused(tokenizer: Any) -> None:
    with pytest.raises(ConfigurationError, match="0 to learn"):
        prepare_split(tokenizer, Conversations([row("안녕", "긴 답 " * 20)], [], "rows", "0"), max_length=16)


def test_a_version_keeps_its_split_and_gets_the_card_s_system_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {"train": [as_row("안녕", "왔구나")], "validation": [as_row("뭐 해", "노래해")]}
    dataset = SimpleNamespace(
        manifest=SimpleNamespace(character="haneul", content_hash="f00"), rows=lambda split: rows[split]
    )
    monkeypatch.setattr("train_jobs.qlora.data.open_version", lambda name, settings: dataset)
    found = load_conversations(QLoraConfig(character="haneul", data={"version": "haneul@v1"}), get_settings())
    assert (found.name, found.digest) == ("haneul@v1", "f00")
    ((system, *said),) = found.train
    assert system["role"] == "system"
    assert "하늘" in system["content"]
    assert said == row("안녕", "왔구나")
    assert found.validation[0][1:] == row("뭐 해", "노래해")
    with pytest.raises(ConfigurationError, match="not of kelron"):
        load_conversations(QLoraConfig(character="kelron", data={"version": "haneul@v1"}), get_settings())


def test_a_source_is_named_by_its_file_or_by_the_command_that_makes_it(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"messages": row("안녕", "응")}) + "\n", encoding="utf-8")
    of_file = load_conversations(QLoraConfig(character="haneul", data={"path": path}), get_settings())
    assert of_file.name == "rows.jsonl"
    assert of_file.digest == rows_hash([row("안녕", "응")])
    composed = load_conversations(QLoraConfig(character="haneul", data={"count": 4}), get_settings())
    assert composed.name.endswith("dialogues --character haneul --count 4 --seed 0")
    assert len(composed.train) + len(composed.validation) == 4


def as_row(question: str, answer: str) -> Row:
    return make_row(
        character_id="haneul", dataset_source="t", kind="persona", category="greeting", messages=row(question, answer)
    )
