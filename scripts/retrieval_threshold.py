"""Which share of the meaning, and which threshold, keep the passages that answer and leave out those that do not.

On lines of the characters' folders that no model trained on where there are enough of them, never on the evaluation
sets. "Answered": questions on documents for which a shown passage holds the answer. "Silent": lines that no document
answers (talk, feelings, questions about the character) for which none is shown.

    python scripts/retrieval_threshold.py [--reranker reranker] [--lines 60]
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SHOWN = 2
"""Passages, as in ``serve_local.yaml`` (``top_knowledge``)."""

WEIGHTS = (0.2, 0.4, 0.6, 0.8)
"""Shares of the meaning."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A line, and what a passage that answers it holds; nothing for one that no passage answers."""

    text: str
    gold: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """The scores of what was found for one probe, best first, and whether each passage answers."""

    scores: tuple[float, ...]
    answers: tuple[bool, ...]
    is_question: bool

    def shown(self, threshold: float) -> list[bool]:
        return [answers for score, answers in zip(self.scores, self.answers, strict=True) if score >= threshold][
            :SHOWN
        ]


def probes(character: str, most: int, rng: random.Random) -> list[Probe]:
    """Up to ``most`` questions and ``most`` other lines of one character, held-out ones first."""
    from data_pipelines.grammar.intents import is_held_out
    from data_pipelines.grammar.voices import character_voice
    from memory.asking import asks_something
    from train_jobs.reference.rankings import TALK

    voice = character_voice(character)
    asked = [Probe(line, item.fact.gold) for item in voice.facts for line in item.fact.ask]
    talk = [Probe(line) for i in voice.intents if i.category in TALK and not i.context for line in i.user]
    fitting = [[p for p in found if "{" not in p.text and asks_something(p.text)] for found in (asked, talk)]
    for found in fitting:
        rng.shuffle(found)
        found.sort(key=lambda probe: not is_held_out(probe.text))
    return [probe for found in fitting for probe in found[:most]]


async def search(character: str, asked: Sequence[Probe], weight: float, reranker: str | None) -> list[Found]:
    """Every probe against the character's documents."""
    from core.settings import get_settings
    from data_pipelines.grammar.voices import character_voice
    from memory.embedder import BgeM3Embedder, EmbedderConfig
    from memory.index import IndexConfig, KnowledgeChunk, QdrantIndex
    from memory.reranker import CrossEncoder, RerankerConfig
    from memory.retriever import HybridRetriever, RetrieverConfig

    embedder = BgeM3Embedder(EmbedderConfig(model=get_settings().model_path("embedder")))
    judge = CrossEncoder(RerankerConfig(model=get_settings().model_path(reranker))) if reranker else None
    with tempfile.TemporaryDirectory() as folder:
        shares = IndexConfig(dense_weight=weight, lexical_weight=round(1 - weight, 6))
        index = QdrantIndex(Path(folder), len((await embedder.embed(["a"]))[0]), shares)
        config = RetrieverConfig(knowledge=8, knowledge_threshold=0, relevance_threshold=0, max_passage_chars=10_000)
        retriever = HybridRetriever(index, embedder, config, "study", judge)
        passages = character_voice(character).passages
        chunks = [KnowledgeChunk(str(at), item.text, item.title, "doc") for at, item in enumerate(passages)]
        await retriever.ingest(character, chunks)
        found = []
        for probe in asked:
            hits = await retriever.search(probe.text, character, None)
            answers = tuple(any(gold in hit.text for gold in probe.gold) for hit in hits)
            found.append(Found(tuple(hit.score for hit in hits), answers, bool(probe.gold)))
        await index.close()
    return found


def rows(name: str, found: Sequence[Found], thresholds: Sequence[float]) -> list[str]:
    """Lines of the table."""
    asked, talk = [item for item in found if item.is_question], [item for item in found if not item.is_question]
    lines = []
    for threshold in thresholds:
        answered = sum(any(item.shown(threshold)) for item in asked) / len(asked)
        silent = sum(not item.shown(threshold) for item in talk) / len(talk)
        lines.append(f"| {name} | {threshold:.2f} | {answered:.0%} | {silent:.0%} | {(answered + silent) / 2:.0%} |")
    return lines


async def study(options: argparse.Namespace) -> None:
    from data_pipelines.grammar.voices import characters

    print("| character, share of the meaning | threshold | answered | silent | mean |\n|---|---|---|---|---|")
    for character in characters():
        asked = probes(character, options.lines, random.Random(options.seed))
        if options.reranker:
            found = await search(character, asked, options.weight, options.reranker)
            print("\n".join(rows(f"{character}, reranker", found, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7))))
            continue
        for weight in WEIGHTS:
            found = await search(character, asked, weight, None)
            print(
                "\n".join(rows(f"{character}, {weight}", found, (0, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7))),
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reranker", help="name under models/, or a path")
    parser.add_argument("--weight", type=float, default=0.6, help="share of the meaning before the reranker")
    parser.add_argument("--lines", type=int, default=60, help="questions, and other lines, of each character")
    parser.add_argument("--seed", type=int, default=0)
    asyncio.run(study(parser.parse_args()))


if __name__ == "__main__":
    main()
