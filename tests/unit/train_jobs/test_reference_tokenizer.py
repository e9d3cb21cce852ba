from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train_jobs.reference.tokenizer import TEMPLATE, build_tokenizer, load_tokenizer

CORPUS = ["휴가 the vacation the vacation policy", "안녕 하늘아 ✨ 休暇 hello hello hello"] * 4


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    built = build_tokenizer(CORPUS, latin_merges=40, template=TEMPLATE.read_text(encoding="utf-8"))
    folder = tmp_path_factory.mktemp("tokenizer")
    built.save_pretrained(str(folder))
    return load_tokenizer(folder)


@given(text=st.text())
def test_any_text_comes_back_exactly(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


@given(text=st.text(alphabet="{}user <|im_end>x가0A\n\t뷁𠮷🎉☁️", max_size=40))
def test_text_that_looks_like_markup_comes_back_exactly(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_one_token_for_each_everyday_syllable(tokenizer: Any) -> None:
    assert len(tokenizer("꽃밭에서요")["input_ids"]) == 5


def test_no_unknown_token_exists(tokenizer: Any) -> None:
    assert tokenizer.unk_token is None
    pieces = tokenizer.convert_ids_to_tokens(tokenizer("𠮷")["input_ids"])
    assert pieces == ["<0xF0>", "<0xA0>", "<0xAE>", "<0xB7>"]


def test_latin_words_are_merged_and_hangul_is_not(tokenizer: Any) -> None:
    assert len(tokenizer(" vacation")["input_ids"]) < len(" vacation")


def test_user_macro_is_one_token_and_survives_skipping_special_tokens(tokenizer: Any) -> None:
    ids = tokenizer("{{user}}아, 왔어?<|im_end|>")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids)[0] == "{{user}}"
    assert tokenizer.decode(ids, skip_special_tokens=True) == "{{user}}아, 왔어?"


def test_ends_of_turn_and_text(tokenizer: Any) -> None:
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert tokenizer.pad_token_id == 0


def test_template_takes_system_messages_anywhere_and_opens_the_reply(tokenizer: Any) -> None:
    messages = [
        {"role": "system", "content": "말투"},
        {"role": "user", "content": "안녕"},
        {"role": "assistant", "content": "왔어?"},
        {"role": "system", "content": "[기억]\n- 가"},
        {"role": "user", "content": "응"},
    ]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<|im_start|>system\n말투<|im_end|>\n<|im_start|>user\n안녕<|im_end|>\n"
        "<|im_start|>assistant\n왔어?<|im_end|>\n<|im_start|>system\n[기억]\n- 가<|im_end|>\n"
        "<|im_start|>user\n응<|im_end|>\n<|im_start|>assistant\n"
    )


def test_generation_mask_covers_reply_and_end_of_turn_only(tokenizer: Any) -> None:
    messages = [
        {"role": "user", "content": "안녕"},
        {"role": "assistant", "content": "응 {{user}}아"},
        {"role": "user", "content": "뭐해"},
        {"role": "assistant", "content": "노래"},
    ]
    encoded = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    spoken = [token for token, said in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if said]
    assert tokenizer.decode(spoken) == "응 {{user}}아<|im_end|>노래<|im_end|>"
