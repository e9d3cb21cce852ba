from __future__ import annotations

import asyncio
import itertools
from difflib import get_close_matches
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
    from train_jobs.reference.rankings import RankingSource

    rankings = list(itertools.islice(RankingSource((asker(),), negatives=2).stream(seed=1), 60))
    answered = [ranking for ranking in rankings if ranking.answered]
    assert 20 < len(answered) < 60, "some are left without an answer"
    for ranking in answered:
        (gold,) = [gold for gold in GOLDS if gold in ranking.passages[0]]
        assert not any(gold in passage for passage in ranking.passages[1:])


def test_small_talk_and_questions_without_their_passage_are_not_answered() -> None:
    from data_pipelines.grammar.composer import Composer
    from train_jobs.reference.rankings import RankingSource, talk_only

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


def test_what_the_fan_told_answers_what_they_ask_back() -> None:
    from data_pipelines.grammar.composer import Composer
    from data_pipelines.grammar.intents import Exchange
    from train_jobs.reference.rankings import RankingSource

    told = {"job": ("정원사", "약사"), "pet": ("앵무새", "거북이"), "city": ("원주", "여수")}
    intents = tuple(
        Intent(
            id=name,
            category="memory",
            user=(f"내 {name} 뭐게?",),
            reply=("{v}!",),
            context=(f"{name}, 얘기야 {{v}}",),
            slots={"v": values},
            tell=Exchange(user=(f"내 {name} 얘기야 {{v}}",), reply=("그래",)),
        )
        for name, values in told.items()
    )
    talkers = (Composer(Voice("t", ("말투",), intents)),)
    rankings = list(itertools.islice(RankingSource((asker(talkers),), negatives=2).stream(seed=1), 300))
    asked_back = [
        ranking for ranking in rankings if "뭐게" in ranking.query and "얘기야" in "".join(ranking.passages)
    ]
    assert len(asked_back) > 30
    assert {ranking.answered for ranking in asked_back} == {True, False}
    for ranking in asked_back:
        name = max(told, key=lambda name: sum(letter in ranking.query for letter in name))  # typed carelessly
        held = [name in passage for passage in ranking.passages]
        assert held == ([True] + [False] * (len(held) - 1) if ranking.answered else [False] * len(held))


def asker(talkers: tuple[Any, ...] = ()) -> Any:
    from train_jobs.reference.rankings import Asker

    return Asker(Voice("t", ("말투",), (), facts=FACTS, passages=PASSAGES), talkers)


def test_a_few_words_of_a_passage_find_it() -> None:
    from train_jobs.reference.rankings import RankingSource

    rankings = itertools.islice(RankingSource((asker(),), negatives=2).stream(seed=1), 80)
    searched = [item for item in rankings if item.answered and not get_close_matches(item.query, ASKED, cutoff=0.8)]
    held = [any(word in ranking.passages[0] for word in ranking.query.split()) for ranking in searched]
    assert sum(held) > 0.8 * len(held) > 5, "some are typed carelessly"


def test_without_an_embedder_there_is_a_clear_error(tmp_path: Path) -> None:
    from train_jobs.reference.reranker import reranker_tokenizer

    with pytest.raises(ConfigurationError, match="no embedder"):
        reranker_tokenizer(tmp_path, positions=514)


@pytest.fixture
def pairs(tmp_path: Path) -> Any:
    """A tokenizer that marks both texts."""
    from train_jobs.reference.embedder import embedder_tokenizer
    from train_jobs.reference.reranker import reranker_tokenizer

    words = build_tokenizer(["hello"], latin_merges=0, template=TEMPLATE.read_text(encoding="utf-8"))
    words.save_pretrained(str(tmp_path / "base"))
    embedder_tokenizer(tmp_path / "base", positions=130).save_pretrained(str(tmp_path / "embedder"))
    return reranker_tokenizer(tmp_path / "embedder", positions=514)


def test_before_any_training_the_model_sees_what_stands_in_both_texts(pairs: Any) -> None:
    import torch

    from train_jobs.reference.matching import FOUND_PAIR, FOUND_TOKEN, build_matcher

    torch.manual_seed(0)
    model = build_matcher(torch.randn(len(pairs), 256), pairs, layers=3, positions=514).eval()
    inputs = pairs(["뿌꾸는 새야?"], ["앵무새 뿌꾸"], return_tensors="pt")
    with torch.inference_mode():
        states = model.roberta(**inputs, output_hidden_states=True).hidden_states
    written = pairs.convert_ids_to_tokens(inputs["input_ids"][0])
    tokens = {name for name, at in zip(written, states[1][0, :, FOUND_TOKEN], strict=True) if at > 2}
    pairs_found = {name for name, at in zip(written, states[2][0, :, FOUND_PAIR], strict=True) if at > 2}
    assert {"뿌", "꾸", "새"} <= tokens
    assert not {"앵", "무", "는", "야"} & tokens
    assert "꾸" in pairs_found
    assert not {"새", "는", "앵"} & pairs_found


def test_a_model_too_small_to_compare_is_refused(pairs: Any) -> None:
    import torch

    from train_jobs.reference.matching import build_matcher

    with pytest.raises(ConfigurationError, match="needs 3 blocks"):
        build_matcher(torch.randn(len(pairs), 64), pairs, layers=3, positions=514)


@pytest.mark.training
def test_a_trained_reranker_loads_as_flag_reranker_and_ranks_what_it_learned(pairs: Any, tmp_path: Path) -> None:
    import torch
    from FlagEmbedding import FlagReranker

    from train_jobs.reference.matching import build_matcher
    from train_jobs.reference.rankings import RankingSource, passage_text
    from train_jobs.reference.reranker import RerankerTraining, save_reranker

    torch.manual_seed(0)
    model = build_matcher(torch.randn(len(pairs), 256), pairs, layers=3, positions=514).bfloat16()
    settings = RerankerConfig(steps=60, questions=3, negatives=2, length=100)
    RerankerTraining(settings, pairs, model).run(RankingSource((asker(),), negatives=2))
    save_reranker(model, pairs, tmp_path / "reranker", torch.float16)

    ranker = FlagReranker(str(tmp_path / "reranker"), use_fp16=False, devices="cpu")
    reader = CrossEncoder(CrossEncoderConfig(model=str(tmp_path / "reranker"), max_tokens=100, batch_size=2))
    for ask, right in zip(ASKED, PASSAGES, strict=True):
        texts = [passage_text(passage) for passage in PASSAGES]
        flag = ranker.compute_score([(ask, text) for text in texts], normalize=True)
        assert asyncio.run(reader.relevance(ask, texts)) == pytest.approx(flag, abs=1e-4), "as FlagEmbedding reads it"
        scores = ranker.compute_score([(ask, passage_text(passage)) for passage in PASSAGES])
        assert PASSAGES[scores.index(max(scores))] is right
