"""How well embedder and reranker find the paragraph that answers a question, next to BM25 over Kiwi's morphemes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict

from data_pipelines.grammar.voices import card_folder, characters, knowledge_files

QUESTIONS = Path(__file__).parent / "retrieval_questions.yaml"
K1, B = 1.5, 0.75


class Question(BaseModel):
    """A question and a phrase that only the paragraphs with its answer hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    character: str
    """Whose knowledge base is searched."""

    query: str
    """As a person would ask; no training text holds it."""

    phrase: str
    """Literal text of the answering paragraph."""


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Share of questions whose answer stands first, or among the first three."""

    questions: int
    passages: int
    dense_at_1: float
    dense_at_3: float
    lexical_at_1: float
    lexical_at_3: float
    bm25_at_1: float
    bm25_at_3: float


@dataclass(frozen=True, slots=True)
class Ranked:
    """One method's hits."""

    at_1: float
    at_3: float


@dataclass(frozen=True, slots=True)
class Reranking:
    """The same shares for BM25 alone, and when a reranker reads its best passages."""

    questions: int
    candidates: int
    bm25_at_1: float
    bm25_at_3: float
    read_at_1: float
    read_at_3: float


def evaluate(model_path: str) -> Retrieval:
    """Measure the embedder in ``model_path`` on the held-out questions."""
    questions, passages = load_questions(), load_passages()
    dense, lexical = _model_scores(model_path, questions, passages)
    bm25 = _bm25_scores(questions, passages)
    ranked = [_hits(questions, passages, scores) for scores in (dense, lexical, bm25)]
    figures = [figure for method in ranked for figure in (method.at_1, method.at_3)]
    return Retrieval(len(questions), sum(map(len, passages.values())), *figures)


def evaluate_reranker(model_path: str, candidates: int = 8) -> Reranking:
    """Let the reranker in ``model_path`` read what BM25 finds for the held-out questions."""
    from FlagEmbedding import FlagReranker

    reader = FlagReranker(model_path, use_fp16=False, devices="cpu")
    questions, passages = load_questions(), load_passages()
    found = _bm25_scores(questions, passages)
    read: list[list[float]] = []
    for question, row in zip(questions, found, strict=True):
        texts = passages[question.character]
        best = sorted(range(len(texts)), key=lambda index, row=row: -row[index])[:candidates]  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        scores = reader.compute_score([(question.query, texts[index]) for index in best], normalize=True)
        again = [-1.0] * len(texts)
        for index, score in zip(best, scores, strict=True):
            again[index] = float(score)
        read.append(again)
    before, after = (_hits(questions, passages, scores) for scores in (found, read))
    return Reranking(len(questions), candidates, before.at_1, before.at_3, after.at_1, after.at_3)


def load_questions() -> list[Question]:
    """The held-out questions."""
    return [Question.model_validate(entry) for entry in yaml.safe_load(QUESTIONS.read_text(encoding="utf-8"))]


def load_passages() -> dict[str, list[str]]:
    """Every character's paragraphs, each under its file's title."""
    return {
        name: [f"{file.title}\n{part}" for file in knowledge_files(card_folder(name)) for part in file.paragraphs]
        for name in characters()
    }


def _hits(questions: Sequence[Question], passages: dict[str, list[str]], scores: Sequence[Sequence[float]]) -> Ranked:
    firsts: list[int] = []
    for question, row in zip(questions, scores, strict=True):
        texts = passages[question.character]
        order = sorted(range(len(texts)), key=lambda index, row=row: -row[index])  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        ranks = [rank for rank, index in enumerate(order) if question.phrase in texts[index]]
        firsts.append(min(ranks, default=len(texts)))
    count = max(1, len(firsts))
    return Ranked(
        round(sum(rank < 1 for rank in firsts) / count, 3), round(sum(rank < 3 for rank in firsts) / count, 3)
    )


def _model_scores(
    path: str, questions: Sequence[Question], passages: dict[str, list[str]]
) -> tuple[list[list[float]], list[list[float]]]:
    from FlagEmbedding import BGEM3FlagModel

    model = BGEM3FlagModel(path, use_fp16=False, devices="cpu")
    found = {name: model.encode(texts, return_dense=True, return_sparse=True) for name, texts in passages.items()}
    asked = model.encode([question.query for question in questions], return_dense=True, return_sparse=True)
    dense: list[list[float]] = []
    lexical: list[list[float]] = []
    for number, question in enumerate(questions):
        texts = found[question.character]
        dense.append((texts["dense_vecs"] @ asked["dense_vecs"][number]).tolist())
        weights = asked["lexical_weights"][number]
        lexical.append(
            [float(model.compute_lexical_matching_score(weights, other)) for other in texts["lexical_weights"]]
        )
    return dense, lexical


def _bm25_scores(questions: Sequence[Question], passages: dict[str, list[str]]) -> list[list[float]]:
    from kiwipiepy import Kiwi

    kiwi = Kiwi()

    def tokens(text: str) -> list[str]:
        return [token.form.lower() for token in kiwi.tokenize(text) if token.tag[0] in "NVMXS"]

    indexes = {name: bm25([tokens(text) for text in texts]) for name, texts in passages.items()}
    return [indexes[question.character](tokens(question.query)) for question in questions]


def bm25(documents: Sequence[Sequence[str]]) -> Callable[[Sequence[str]], list[float]]:
    """Okapi BM25 over tokenised documents: a function from a query's tokens to a score per document."""
    counts = [Counter(document) for document in documents]
    mean = sum(map(len, documents)) / max(1, len(documents))
    holders = Counter(token for count in counts for token in count)

    def score(query: Sequence[str]) -> list[float]:
        scores = []
        for document, count in zip(documents, counts, strict=True):
            total = 0.0
            for token in query:
                rarity = math.log(1 + (len(documents) - holders[token] + 0.5) / (holders[token] + 0.5))
                length = 1 - B + B * len(document) / mean
                total += rarity * count[token] * (K1 + 1) / (count[token] + K1 * length)
            scores.append(total)
        return scores

    return score
