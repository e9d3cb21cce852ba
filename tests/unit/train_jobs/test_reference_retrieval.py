from __future__ import annotations

import random

from data_pipelines.grammar.voices import KnowledgeFile
from train_jobs.reference.pairs import PairSource, noisy, some_words
from train_jobs.reference.retrieval import bm25, load_passages


def test_bm25_ranks_the_rare_word_above_the_common_one() -> None:
    scores = bm25([["별", "노래"], ["별", "고양이"], ["별", "별"]])(["별", "고양이"])
    assert scores.index(max(scores)) == 1


def test_pairs_of_a_batch_have_origins_of_their_own() -> None:
    files = tuple(KnowledgeFile(f"제목 {n}", (f"첫 문장 {n}이다. 다음 문장이다.",)) for n in range(8))
    batch = next(PairSource((), files, ()).batches(6, seed=1))
    assert len({pair.origin for pair in batch}) == 6


def test_noise_loses_at_most_one_character_or_the_end() -> None:
    text = "오늘은 비가 온다."
    for seed in range(40):
        assert len(noisy(text, random.Random(seed))) >= len(text) - 1
        assert some_words(text, random.Random(seed))


def test_passages_carry_their_titles_and_no_front_matter() -> None:
    for texts in load_passages().values():
        assert texts
        assert all("\n" in text and not text.startswith("---") for text in texts)
