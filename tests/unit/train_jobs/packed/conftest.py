"""A tiny random base, and conversations of made-up tokens that can be learned."""

import random
from collections.abc import Callable

import pytest

from train_jobs.qlora.data import IGNORED, EncodedRow

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("bitsandbytes")

VOCABULARY = 128
MAX_LENGTH = 48


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a random Llama: two layers of 64, grouped keys and values, weights large enough to matter."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=MAX_LENGTH,
        initializer_range=0.1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = LlamaForCausalLM(shape)
    folder = tmp_path_factory.mktemp("base")
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def make_rows() -> Callable[[int, int], list[EncodedRow]]:
    """``make_rows(count, seed)``: sequences with a constant stride, of which the first third is only read."""

    def make(count: int, seed: int) -> list[EncodedRow]:
        rng = random.Random(seed)
        return [
            _row(rng.randrange(4, MAX_LENGTH), rng.randrange(VOCABULARY), rng.choice((1, 3, 7))) for _ in range(count)
        ]

    return make


def _row(length: int, first: int, stride: int) -> EncodedRow:
    tokens = [(first + stride * place) % VOCABULARY for place in range(length)]
    labels = [IGNORED if place < length // 3 else token for place, token in enumerate(tokens)]
    return EncodedRow([], tokens, labels)
