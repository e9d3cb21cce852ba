from __future__ import annotations

from pathlib import Path

import pytest

from train_jobs.reference.config import EmbedderConfig
from train_jobs.reference.tokenizer import TEMPLATE, build_tokenizer


@pytest.mark.training
def test_saved_embedder_loads_as_bge_m3_and_knows_equal_texts(tmp_path: Path) -> None:
    import torch
    from FlagEmbedding import BGEM3FlagModel

    from train_jobs.reference.embedder import Embedder, embedder_tokenizer, save_embedder

    base = build_tokenizer(["hello"], latin_merges=0, template=TEMPLATE.read_text(encoding="utf-8"))
    base.save_pretrained(str(tmp_path / "base"))
    tokenizer = embedder_tokenizer(tmp_path / "base", positions=66)
    config = EmbedderConfig(hidden=32, layers=1, heads=1, inner=32, positions=66)
    torch.manual_seed(0)
    save_embedder(Embedder(config, tokenizer), tokenizer, tmp_path / "embedder", torch.float16)

    model = BGEM3FlagModel(str(tmp_path / "embedder"), use_fp16=False, devices="cpu", query_max_length=64)
    found = model.encode(["딸기우유", "딸기우유", "설비 점검"], return_sparse=True, max_length=64)
    dense = found["dense_vecs"]
    assert dense.shape == (3, 32)
    assert float(dense[0] @ dense[1]) == pytest.approx(1.0, abs=1e-3)
    assert abs(dense[0] - dense[2]).max() > 10 * abs(dense[0] - dense[1]).max()
    assert len(found["lexical_weights"]) == 3
