"""Packed sequences learn what unpacked rows learn, and no conversation sees another."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("trl")

import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from train_jobs.qlora.config import QLoraConfig
from train_jobs.qlora.data import IGNORED
from train_jobs.qlora.packing import collator, conversations, packed, real_tokens

PAD = 0
LENGTHS = (5, 9, 12, 3, 7, 16, 4)


def dataset(lengths: tuple[int, ...]) -> Dataset:
    """Rows of random tokens; the second half of each is learned."""
    generator = torch.Generator().manual_seed(0)
    ids = [torch.randint(1, 128, (length,), generator=generator).tolist() for length in lengths]
    labels = [[IGNORED] * (len(row) - len(row) // 2) + row[len(row) - len(row) // 2 :] for row in ids]
    return Dataset.from_dict({"input_ids": ids, "labels": labels})


def collate(packing: bool, rows: Dataset) -> dict[str, torch.Tensor]:
    config = QLoraConfig(character="haneul", packing=packing)
    return collator(config, PAD)([rows[index] for index in range(len(rows))])


@pytest.fixture(scope="module", params=["eager", "sdpa"])
def model(request: pytest.FixtureRequest) -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=128, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4
    )
    shape._attn_implementation = request.param
    return LlamaForCausalLM(shape).eval()


def loss_sum(model: LlamaForCausalLM, batch: dict[str, torch.Tensor]) -> tuple[float, int]:
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    with torch.no_grad():
        logits = model(**inputs, use_cache=False).logits[:, :-1]
    labels = batch["labels"][:, 1:]
    total = cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum")
    return float(total), int((labels != IGNORED).sum())


def test_the_packed_loss_is_the_unpacked_one(model: LlamaForCausalLM) -> None:
    rows = dataset(LENGTHS)
    sequences = packed(rows, 20)
    assert len(sequences) < len(rows)
    plain, learned = loss_sum(model, collate(False, rows))
    dense, learned_packed = loss_sum(model, collate(True, sequences))
    assert learned_packed == learned
    assert dense == pytest.approx(plain, rel=1e-5)


def test_a_conversation_does_not_see_the_one_before_it(model: LlamaForCausalLM) -> None:
    sequences = packed(dataset((8, 12)), 20)
    batch = collate(True, sequences)
    assert batch["input_ids"].shape == (1, 20)
    border = int(sequences[0]["seq_lengths"][0])
    other = {**batch, "input_ids": batch["input_ids"].clone()}
    other["input_ids"][0, :border] = 99
    with torch.no_grad():
        before, after = (
            model(input_ids=each["input_ids"], position_ids=each["position_ids"], use_cache=False).logits
            for each in (batch, other)
        )
    torch.testing.assert_close(after[0, border:], before[0, border:])
    assert not torch.allclose(after[0, :border], before[0, :border])


def test_packing_keeps_the_shape_and_gives_positions_in_place_of_a_mask() -> None:
    sequences = packed(dataset(LENGTHS), 20)
    batch = collate(True, sequences)
    assert batch["input_ids"].shape == (len(sequences), 20)
    assert "attention_mask" not in batch
    assert all(label == IGNORED for label in batch["labels"][batch["position_ids"] == 0].tolist())


def test_validation_rows_are_padded_even_when_the_training_is_packed() -> None:
    batch = collate(True, dataset(LENGTHS))
    assert batch["attention_mask"].sum() == sum(LENGTHS)


@pytest.mark.parametrize("packing", [False, True])
def test_conversations_and_their_tokens_are_found_again_in_a_batch(packing: bool) -> None:
    rows = dataset(LENGTHS)
    batch = collate(packing, packed(rows, 20) if packing else rows)
    assert sorted(conversations(batch)) == sorted(rows["input_ids"])
    assert real_tokens(batch) == sum(LENGTHS)


@settings(max_examples=20)
@given(st.lists(st.integers(2, 24), min_size=1, max_size=30))
def test_every_conversation_is_whole_in_exactly_one_sequence(lengths: list[int]) -> None:
    rows = dataset(tuple(lengths))
    sequences = packed(rows, 24)
    assert all(len(row["input_ids"]) == sum(row["seq_lengths"]) <= 24 for row in sequences)
    assert sorted(conversations(collate(True, sequences))) == sorted(rows["input_ids"])
