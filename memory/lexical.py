"""Text as a sparse vector of morphemes, so that Qdrant's dot product with IDF becomes BM25.

Particles and endings are cut off by Kiwi: 떡볶이를, 떡볶이가 and 떡볶이 are one term. IDF is Qdrant's part
(``Modifier.IDF``); term frequency and length normalisation are ours, at indexing time. Japanese, which Kiwi does
not know, goes in as single Chinese characters and as pairs of neighbouring characters of one script.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_CONTENT_TAGS = frozenset({"NNG", "NNP", "NR", "XR", "SL", "SH", "SN", "VV", "VA", "W_HASHTAG"})
_NOUN_TAGS = frozenset({"NNG", "NNP", "XSN"})
_NAMING_TAGS = _NOUN_TAGS | {"NNB", "NR", "SL", "SN"}
_MARKS = frozenset({"SF", "SP", "SS", "SSO", "SSC", "SE", "SO", "SW", "SB", "W_EMOJI", "Z_CODA"})
_EMPTY_WORDS = frozenset({"하", "되", "있", "없", "같", "보", "알", "말", "말하", "가", "오", "주", "거"})

_K1 = 1.2
_B = 0.75
_AVERAGE_TERMS = 24.0
"""A typical chunk of ours; fixed, so that adding a document changes no other one's vector."""

_AVERAGE_TERMS_JA = 160.0
"""The same for Japanese, where every pair of characters is a term."""
_KANA = re.compile(r"[ぁ-ゖァ-ヺー]")
_HANGUL = re.compile(r"[가-힣]")
_JAPANESE_RUN = re.compile(r"[一-鿿々]+|[ァ-ヺー]+|[ぁ-ゖ]+")
_JAPANESE_NOUN = re.compile(r"(?:[一-鿿々]{2,}|[ァ-ヺー]{2,})(?!さん|ちゃん|くん|君|さま|様|先生|先輩)")
_NO_TOPICS = re.compile(
    "今日|明日|昨日|最近|本当|自分|時間|大丈夫|一番|今度|来週|来月|毎日|結構|実際|全部|無理|苦手|不安|心配|緊張"
)

_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class SparseTerms:
    """A sparse vector: hashed terms and their weights."""

    indices: list[int]
    values: list[float]


def is_japanese(text: str) -> bool:
    """Whether ``text`` is written in kana rather than in Hangul."""
    return len(_KANA.findall(text)) > len(_HANGUL.findall(text))


def terms(text: str) -> list[str]:
    """Content morphemes of ``text`` in order, repeated as often as they occur.

    Nouns written together also count as one: whether Kiwi splits a compound depends on what stands around it.
    """
    with _lock:  # also keeps two first callers from loading the model twice
        tokens = _kiwi().tokenize(text)
    found = _japanese_terms(text) if is_japanese(text) else []
    compound, compound_end = "", -1
    for token in tokens:
        if token.tag.partition("-")[0] in _CONTENT_TAGS and token.form not in _EMPTY_WORDS:
            found.append(token.form.lower())
        if token.tag in _NOUN_TAGS:
            compound = compound + token.form if token.start == compound_end else token.form
            compound_end = token.start + token.len
            if compound != token.form:
                found.append(compound.lower())
    return found


def _japanese_terms(text: str) -> list[str]:
    """Pairs of neighbours, so that 三毛猫 and 猫 meet; lone kana are particles and say nothing."""
    found: list[str] = []
    for run in _JAPANESE_RUN.findall(text):
        found += [run[at : at + 2] for at in range(len(run) - 1)]
        found += run if run[0] >= "一" or run[0] == "々" else []
    return found


def japanese_nouns(text: str) -> list[str]:
    """Words of Chinese characters or katakana in order, without names of people."""
    return [noun for noun in _JAPANESE_NOUN.findall(text) if not _NO_TOPICS.fullmatch(noun)]


def nouns(text: str) -> list[str]:
    """Nouns of ``text`` in order, spelled as they stand there."""
    with _lock:
        tokens = _kiwi().tokenize(text)
    return [token.form for token in tokens if token.tag in ("NNG", "NNP") and token.form in text]


def ends_in_noun(text: str) -> bool:
    """Whether the last Korean word of ``text`` is a noun, a number or foreign, without a particle or an ending."""
    with _lock:
        tokens = [token for token in _kiwi().tokenize(text) if token.tag not in _MARKS]
    return bool(tokens) and tokens[-1].tag in _NAMING_TAGS


def without_particle(word: str) -> str:
    """``word`` without the particles at its end: 하늘이를 becomes 하늘, 떡볶이 stays whole."""
    with _lock:
        tokens = _kiwi().tokenize(word)
    while tokens and tokens[-1].tag.startswith("J"):
        tokens.pop()
    return word[: tokens[-1].start + tokens[-1].len] if tokens else ""


def document_vector(text: str) -> SparseTerms:
    """How much each term says about ``text``: BM25's term part."""
    counts = Counter(_hashed(terms(text)))
    length = counts.total()
    average = _AVERAGE_TERMS_JA if is_japanese(text) else _AVERAGE_TERMS
    norm = _K1 * (1 - _B + _B * length / average)
    weights = {index: count * (_K1 + 1) / (count + norm) for index, count in sorted(counts.items())}
    return SparseTerms(list(weights), list(weights.values()))


def query_vector(text: str) -> SparseTerms:
    """Each term of a query once."""
    indices = sorted(set(_hashed(terms(text))))
    return SparseTerms(indices, [1.0] * len(indices))


def _hashed(words: Iterable[str]) -> list[int]:
    """Terms as the 32-bit numbers that Qdrant wants; the same in every process."""
    return [
        int.from_bytes(hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=4).digest()) for word in words
    ]


@lru_cache(maxsize=1)
def _kiwi() -> Any:
    from kiwipiepy import Kiwi

    return Kiwi(num_workers=1)
