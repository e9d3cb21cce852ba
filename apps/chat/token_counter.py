"""Counts tokens with the served model's own tokenizer, without loading Transformers."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from personas.prompt import TokenCount


def token_counter(model: str) -> TokenCount:
    """A cached counter for a local directory's or a hub model's ``tokenizer.json``."""
    from tokenizers import Tokenizer

    file = Path(model) / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(file)) if file.is_file() else Tokenizer.from_pretrained(model)

    @lru_cache(maxsize=4096)
    def count(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    return count
