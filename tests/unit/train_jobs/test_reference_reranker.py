from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest

from core.errors import ConfigurationError
from data_pipelines.grammar.facts import Fact, GroundedFact, Passage
from data_pipelines.grammar.intents import Intent
from data_pipelines.grammar.voices import Voice
from memory.reranker import CrossEncoder
from memory.reranker import RerankerConfig as CrossEncoderConfig
from train_jobs.reference.config import RerankerConfig
from train_jobs.reference.tokenizer import TEMPLATE, build_tokenizer

PASSAGES = tuple(
    Passage("d", text) for text in ("고양이 구름은 네 살이다.", "첫 별은 3월에 나왔다.", "설비는 월요일에 점검한다.")
)
ASKED = ("구름이는 몇 살이야?", "첫 별은 언제 나왔어?", "설비 점검은 언제 합니까?")
GOLDS = ("네 살", "3월", "월요일")
FACTS = tuple(
    GroundedFact(Fact(doc="d", fact=passage.text, gold=(gold,), ask=(ask,), say=(gold,)), passage)
    for passage, ask, gold in zip(PASSAGES, ASKED, GOLDS, strict=True)
)


def test_the_first_passage_answers_and_the_others_do_not() -> None:
    from train_jobs.reference.reranker import RankingSource

    rankings = list(itertools.islice(RankingSource((asker(),), negatives=2).stream(seed=1), 60))
    answered = [ranking for ranking in rankings if ranking.answered]
    assert 20 < len(answered) < 60, "some are left without an answer"
    for ranking in answered:
        (gold,) = [gold for gold in GOLDS if gold in ranking.passages[0]]
        assert not any(gold in passage for passage in ranking.passages[1:])


def test_small_talk_and_questions_without_their_passage_are_not_answered() -> None:
    from data_pipelines.grammar.composer import Composer
    from train_jobs.reference.reranker import RankingSource, talk_only

    talk = Intent(id="hi", category="greeting", user=("안녕",), reply=("응 안녕",))
    news = Intent(id="news", category="world", user=("별빛 소식 있어?",), reply=("곧 나와",))
    assert talk_only(Voice("t", ("말투",), (talk, news), facts=FACTS, passages=PASSAGES)).intents == (talk,)
    talkers = (Composer(Voice("t", ("말투",), (talk,))),)
    rankings = list(itertools.islice(RankingSource((asker(talkers),), negatives=2).stream(seed=1), 200))
    spoken = [ranking for ranking in rankings if "안녕" in ranking.query]
    assert len(spoken) > 40
    assert not any(ranking.answered for ranking in spoken)
    for ranking in rankings:
        if not ranking.answered and ranking not in spoken:
            assert sum(gold in passage for gold in GOLDS for passage in ranking.passages) == 2, "one is taken out"


def asker(talkers: tuple[Any, ...] = ()) -> Any:
    from train_jobs.reference.reranker import Asker

    return Asker(Voice("t", ("말투",), (), facts=FACTS, passages=PASSAGES), talkers)


def test_a_few_words_of_a_passage_find_it() -> None:
    from train_jobs.reference.reranker import RankingSource

    rankings = itertools.islice(RankingSource((asker(),), negatives=2).stream(seed=1), 80)
    searched = [ranking for ranking in rankings if ranking.answered and ranking.query not in ASKED]
    held = [any(word in ranking.passages[0] for word in ranking.query.split()) for ranking in searched]
    assert sum(held) > 0.8 * len(held) > 5, "some are typed carelessly"


def test_without_a_base_there_is_a_clear_error(tmp_path: Path) -> None:
    from train_jobs.reference.reranker import build_reranker

    with pytest.raises(ConfigurationError, match="no base model"):
        build_reranker(tmp_path, layers=1, tokenizer=None)


@pytest.mark.training
def test_a_trained_reranker_loads_as_flag_reranker_and_ranks_what_it_learned(tmp_path: Path) -> None:
    import torch
    from FlagEmbedding import FlagReranker
    from transformers import LlamaConfig, LlamaForCausalLM

    from train_jobs.reference.embedder import embedder_tokenizer
    from train_jobs.reference.reranker import (
        RankingSource,
        RerankerTraining,
        build_reranker,
        passage_text,
        save_reranker,
    )

    words = build_tokenizer(["hello"], latin_merges=0, template=TEMPLATE.read_text(encoding="utf-8"))
    words.save_pretrained(str(tmp_path / "base"))
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2
    )
    LlamaForCausalLM(shape).bfloat16().save_pretrained(tmp_path / "base")

    pairs = embedder_tokenizer(tmp_path / "base", positions=130)
    model = build_reranker(tmp_path / "base", 2, pairs)
    assert model.config.num_hidden_layers == 2
    settings = RerankerConfig(steps=150, questions=3, negatives=2, length=100, learning_rate=0.01, matrix_lr=0.03)
    RerankerTraining(settings, pairs, model).run(RankingSource((asker(),), negatives=2))
    save_reranker(model, pairs, tmp_path / "reranker", torch.float16)

    ranker = FlagReranker(str(tmp_path / "reranker"), use_fp16=False, devices="cpu", max_length=100)
    reader = CrossEncoder(CrossEncoderConfig(model=str(tmp_path / "reranker"), max_tokens=100, batch_size=2))
    for ask, right in zip(ASKED, PASSAGES, strict=True):
        texts = [passage_text(passage) for passage in PASSAGES]
        flag = ranker.compute_score([(ask, text) for text in texts], normalize=True)
        assert asyncio.run(reader.relevance(ask, texts)) == pytest.approx(flag, abs=1e-4), "as FlagEmbedding reads it"
        scores = ranker.compute_score([(ask, passage_text(passage)) for passage in PASSAGES])
        assert PASSAGES[scores.index(max(scores))] is right
