"""Hybrid search on Qdrant's local mode."""

import math

import pytest

from core.contracts import Memory, utc_now
from core.errors import StoreUnavailable
from memory.embedder import HashEmbedder
from memory.fakes import FakeReranker
from memory.index import IndexConfig, KnowledgeChunk, QdrantIndex
from memory.lexical import document_vector, query_vector, terms
from memory.retriever import HybridRetriever, IngestReport, RetrieverConfig, best_window

_CHUNKS = [
    KnowledgeChunk("profile", "하늘은 스무 살이고 고향은 부산이다.", "하늘 프로필", "profile"),
    KnowledgeChunk("album", "첫 앨범의 타이틀곡은 별이 지는 밤이다.", "1집 별빛", "album"),
    KnowledgeChunk("food", "하늘이 가장 좋아하는 음식은 떡볶이다.", "좋아하는 것", "profile"),
]


@pytest.fixture
async def index(tmp_path):
    index = QdrantIndex(tmp_path / "qdrant", 256)
    yield index
    await index.close()


@pytest.fixture
def embedder():
    return HashEmbedder()


@pytest.fixture
def retriever(index, embedder):
    return HybridRetriever(index, embedder, RetrieverConfig(knowledge_threshold=0.05, memory_threshold=0.05), "hash")


def _memory(memory_id, fan_id, persona, text):
    return Memory(memory_id, fan_id, persona, text, utc_now())


async def test_best_knowledge_comes_first(retriever):
    await retriever.ingest("haneul", _CHUNKS)
    passages = await retriever.search("떡볶이 좋아해?", "haneul", None)
    assert passages[0].id == "food"
    assert passages[0].kind == "knowledge"
    assert [p.score for p in passages] == sorted((p.score for p in passages), reverse=True)
    assert all(0 < p.score <= 1 for p in passages)


async def test_what_is_told_gets_no_knowledge_if_questions_only(index, embedder):
    config = RetrieverConfig(knowledge_threshold=0.05, memory_threshold=0.05, questions_only=True)
    retriever = HybridRetriever(index, embedder, config, "hash")
    await retriever.ingest("haneul", _CHUNKS)
    await retriever.remember([_memory("m1", "fan", "haneul", "떡볶이 가게에서 일한다.")])
    told = await retriever.search("오늘 떡볶이 먹었어", "haneul", "fan")
    assert [passage.kind for passage in told] == ["memory"]
    asked = await retriever.search("좋아하는 음식이 뭐야", "haneul", "fan")
    assert "knowledge" in {passage.kind for passage in asked}


async def test_ingestion_follows_its_documents(retriever):
    assert await retriever.ingest("haneul", _CHUNKS) == IngestReport(3, 0, 0)
    assert await retriever.ingest("haneul", _CHUNKS) == IngestReport(0, 0, 3)
    changed = KnowledgeChunk("food", "하늘은 이제 순대를 좋아한다.", "좋아하는 것", "profile")
    assert await retriever.ingest("haneul", [_CHUNKS[0], changed]) == IngestReport(1, 1, 1)
    found = {p.id: p.text for p in await retriever.search("순대 떡볶이 타이틀곡", "haneul", None)}
    assert found["food"] == changed.text
    assert "album" not in found


async def test_origins_are_kept_apart(retriever):
    await retriever.ingest("haneul", _CHUNKS)
    await retriever.ingest("haneul", [KnowledgeChunk("food", "떡볶이 조리법", "문서", "doc")], "document-1")
    assert await retriever.remove("haneul", "document-1") == IngestReport(0, 1, 0)
    assert (await retriever.search("떡볶이", "haneul", None))[0].text == _CHUNKS[2].text


async def test_no_passage_crosses_to_another_persona_or_fan(retriever):
    await retriever.ingest("haneul", _CHUNKS)
    await retriever.remember(
        [
            _memory("1", "fan-a", "haneul", "{{user}}은 떡볶이를 좋아한다."),
            _memory("2", "fan-b", "haneul", "{{user}}은 떡볶이를 못 먹는다."),
            _memory("3", "fan-a", "sera", "{{user}}은 떡볶이를 팔았다."),
        ]
    )
    passages = await retriever.search("떡볶이", "haneul", "fan-a")
    assert {p.id for p in passages if p.kind == "memory"} == {"1"}
    assert {p.id for p in await retriever.search("떡볶이", "sera", "fan-a")} == {"3"}
    assert {p.kind for p in await retriever.search("떡볶이", "haneul", None)} == {"knowledge"}
    assert await retriever.search("떡볶이", "sera", "fan-c") == []
    assert await retriever.search("떡볶이", "sera", "fan-b") == []


async def test_forgotten_fan_and_memory_are_gone(retriever):
    await retriever.remember(
        [_memory(str(n), fan, "haneul", f"{{{{user}}}}은 떡볶이 {n}개를 먹었다.") for n, fan in enumerate("aab")]
    )
    await retriever.forget_memories(["0", "unknown"])
    assert {p.id for p in await retriever.search("떡볶이", "haneul", "a")} == {"1"}
    await retriever.forget_fan("a")
    assert await retriever.search("떡볶이", "haneul", "a") == []
    assert await retriever.memory_count() == 1


async def test_without_embedder_the_search_goes_by_words(retriever, embedder):
    await retriever.ingest("haneul", _CHUNKS)
    embedder.down = True
    assert [p.id for p in await retriever.search("타이틀곡이 뭐야?", "haneul", None)] == ["album"]
    assert retriever.degraded == ("embedder",)
    embedder.down = False
    await retriever.search("타이틀곡", "haneul", None)
    assert retriever.degraded == ()


async def test_unreachable_qdrant_is_named(embedder):
    index = QdrantIndex("http://127.0.0.1:9", 256, IndexConfig(timeout_s=1))
    with pytest.raises(StoreUnavailable) as error:
        await HybridRetriever(index, embedder).search("떡볶이", "haneul", None)
    assert error.value.param == "qdrant"


async def test_second_process_on_the_local_folder_is_refused(index, tmp_path):
    await index.ping()
    other = QdrantIndex(tmp_path / "qdrant", 256)
    with pytest.raises(StoreUnavailable, match="in use"):
        await other.ping()


async def test_points_survive_a_restart_and_another_size_rebuilds(index, tmp_path):
    retriever = HybridRetriever(index, HashEmbedder())
    await retriever.remember([_memory("1", "a", "haneul", "{{user}}은 떡볶이를 좋아한다.")])
    await index.close()
    assert await index.memory_count() == 1
    await index.close()
    smaller = QdrantIndex(tmp_path / "qdrant", 64)
    assert await smaller.memory_count() == 0
    await smaller.close()


async def test_thresholds_keep_weak_passages_out(index, embedder):
    strict = HybridRetriever(index, embedder, RetrieverConfig(knowledge_threshold=0.99))
    await strict.ingest("haneul", _CHUNKS)
    assert await strict.search("떡볶이", "haneul", None) == []
    assert await strict.search("  ", "haneul", None) == []


def test_particles_do_not_change_terms():
    assert terms("떡볶이를") == terms("떡볶이가") == terms("떡볶이") == ["떡볶이"]
    assert query_vector("떡볶이를").indices == document_vector("떡볶이").indices


def test_longer_documents_count_a_term_less():
    short, long = document_vector("떡볶이"), document_vector("떡볶이 " + "순대 김밥 라면 만두 " * 10)
    wanted = query_vector("떡볶이").indices[0]
    assert short.values[0] > long.values[long.indices.index(wanted)] > 0


async def test_hash_embedder_gives_unit_vectors_by_likeness():
    near, base, far, empty = await HashEmbedder().embed(["떡볶이 좋아", "떡볶이 좋아해", "내일 면접이야", ""])
    assert all(math.isclose(math.hypot(*vector), 1.0) for vector in (near, base, far, empty))
    assert math.sumprod(near, base) > math.sumprod(far, base) if hasattr(math, "sumprod") else True


def test_long_passage_is_cut_to_the_sentences_asked_for():
    passage = "하늘은 부산에서 자랐다. 연습생 시절이 길었다. 첫 앨범은 봄에 나왔다. 가장 좋아하는 음식은 떡볶이다."
    assert best_window(passage, "떡볶이 좋아해?", 40).endswith("가장 좋아하는 음식은 떡볶이다.")
    assert best_window(passage, "전혀 다른 말", 40).startswith("하늘은 부산에서")
    assert all(len(best_window(passage, "떡볶이", n)) <= n for n in range(20, 80))
    assert best_window("짧다.", "떡볶이", 20) == "짧다."


async def test_a_reranker_leaves_out_what_is_near_but_no_answer(index, embedder):
    reranker = FakeReranker()
    config = RetrieverConfig(knowledge=1, knowledge_threshold=0)
    retriever = HybridRetriever(index, embedder, config, reranker=reranker)
    await retriever.ingest("haneul", _CHUNKS)
    assert await retriever.search("하늘아 좋은 아침이야", "haneul", None) == []
    assert len(reranker.read[0]) == len(_CHUNKS), "it reads more than what is wanted"
    (passage,) = await retriever.search("타이틀곡 뭐야", "haneul", None)
    assert (passage.id, passage.score) == ("album", 0.9)


async def test_a_reranker_that_may_read_nothing_is_not_asked(index, embedder):
    reranker = FakeReranker()
    config = RetrieverConfig(knowledge_threshold=0.05, candidates=0)
    retriever = HybridRetriever(index, embedder, config, reranker=reranker)
    await retriever.ingest("haneul", _CHUNKS)
    assert (await retriever.search("떡볶이 좋아해?", "haneul", None))[0].id == "food"
    assert reranker.read == []


async def test_without_its_reranker_the_search_goes_by_the_fused_score_and_says_so(index, embedder):
    reranker = FakeReranker()
    retriever = HybridRetriever(index, embedder, RetrieverConfig(knowledge_threshold=0.05), reranker=reranker)
    await retriever.ingest("haneul", _CHUNKS)
    reranker.down = True
    assert (await retriever.search("떡볶이 좋아해?", "haneul", None))[0].id == "food"
    assert retriever.degraded == ("embedder",)
    reranker.down = False
    await retriever.search("떡볶이 좋아해?", "haneul", None)
    assert retriever.degraded == ()
