"""What integration tests share: real servers, started once in a folder of their own, and models to train."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.settings import PROJECT_ROOT
from memory.embedded import RunningServers, running_servers
from memory.migrate import upgrade
from tests.integration.training_runs import environment_of


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServers]:
    """PostgreSQL (migrated) and Redis that nothing kills: share them, with ids of your own."""
    with running_servers(tmp_path_factory.mktemp("servers") / "home") as running:
        upgrade(running.database_url)
        yield running


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with ``micro``, one random layer under our tokenizer, and ``poisoned``, whose loss is NaN."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("models")
    tokenizer = AutoTokenizer.from_pretrained(PROJECT_ROOT / "models" / "base")
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    model.save_pretrained(folder / "micro")
    model.get_input_embeddings().weight.data.fill_(float("nan"))
    model.save_pretrained(folder / "poisoned")
    for name in ("micro", "poisoned"):
        tokenizer.save_pretrained(folder / name)
    return folder


@pytest.fixture
def environment(models: Path, tmp_path: Path) -> dict[str, str]:
    """The environment of a command whose home is the test's own."""
    return environment_of(tmp_path / "home", models)
