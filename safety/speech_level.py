"""Speech levels of sentences: Korean by the morphology of their endings (Kiwi), Japanese by the endings alone."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from core.contracts import USER_MACRO, Verdict
from safety import japanese_speech
from safety.policy import SpeechPolicy

SpeechLevel = Literal["banmal", "haeyo", "hapsyo", "teinei", "tameguchi", "other"]

_LANGUAGES: tuple[tuple[SpeechLevel, ...], ...] = (("banmal", "haeyo", "hapsyo"), ("teinei", "tameguchi"))
"""Levels that can be held against each other; a Japanese answer says nothing about a Korean level."""

_FORMAL = re.compile(r"(니다|니까|시오|십쇼|ᆸ시다|읍시다|올시다|나이다)$")
_ADORNMENT = re.compile(r"[^\w\s.,!?…~'\"()\-:%·]|[ㄱ-ㅎㅏ-ㅣ]+|~+")
_SENTENCE = re.compile(r"[^.!?…\n]+[.!?…]*")
_QUOTED = re.compile(r'"[^"]*"|“[^”]*”|「[^「」]*」')

_CLOSING = ("SF", "SP", "SS", "SSO", "SSC", "SE", "SO", "SW", "SB")


@dataclass(frozen=True, slots=True)
class SpeechCounts:
    """How many sentences of a text were in which level; ``other`` are those without one."""

    banmal: int = 0
    haeyo: int = 0
    hapsyo: int = 0
    other: int = 0
    teinei: int = 0
    tameguchi: int = 0

    @property
    def judged(self) -> int:
        """Sentences that have a level, in any language."""
        return sum(self.of_language(levels[0]) for levels in _LANGUAGES)

    def of_language(self, level: SpeechLevel) -> int:
        """Sentences that have a level, in the language that ``level`` belongs to."""
        return sum(getattr(self, other) for levels in _LANGUAGES if level in levels for other in levels)

    def ratio(self, level: SpeechLevel) -> float:
        """Share of ``level`` among the sentences of its language that have a level; 0.0 when none has."""
        count: int = getattr(self, level)
        judged = self.of_language(level)
        return count / judged if judged else 0.0


_YES = ("넵", "넵넵", "네넵", "넹", "넹넹", "옙", "옙옙")
"""Ways to say yes, which Kiwi takes for plain endings (넵넵) or nouns (넵)."""


class SpeechClassifier:
    """Classifies sentences. Loading takes about a second: make one and share it (:func:`shared`)."""

    def __init__(self) -> None:
        from kiwipiepy import Kiwi

        self._kiwi: Any = Kiwi(num_workers=1)
        for word in _YES:
            self._kiwi.add_user_word(word, "IC")

    def classify(self, sentence: str) -> SpeechLevel:
        """The level of one sentence; ``other`` for fragments, names, interjections and other languages."""
        if japanese_speech.is_japanese(sentence):
            return japanese_speech.classify(sentence)
        tokens = _without_tail(self._tokens(sentence))
        return _level(tokens[-1]) if tokens else "other"

    def count(self, text: str) -> SpeechCounts:
        """Levels of all sentences of ``text``."""
        levels: Counter[str] = Counter(self.classify(sentence) for sentence in self.sentences(text))
        return SpeechCounts(**levels)

    def sentences(self, text: str) -> list[str]:
        """Split at punctuation and, where it is missing, where the grammar says so."""
        found: list[str] = []
        for line in text.splitlines():
            japanese = japanese_speech.is_japanese(_QUOTED.sub("", line))
            found += japanese_speech.sentences(line) if japanese else self._korean(line)
        return found

    def _korean(self, text: str) -> list[str]:
        """What stands in quotation marks are somebody else's words, whatever their level."""
        clean = _clean(_QUOTED.sub('"그 말"', text))
        parts = [part for piece in _SENTENCE.findall(clean) for part in self._kiwi.split_into_sents(piece)]
        return [part.text.strip() for part in parts if part.text.strip()]

    def _tokens(self, sentence: str) -> list[Any]:
        return list(self._kiwi.tokenize(_clean(sentence)))


def _without_tail(tokens: list[Any]) -> list[Any]:
    """Drop what follows the ending: punctuation, a called name, playful codas."""
    rest = list(tokens)
    while rest:
        last, before = rest[-1], rest[-2] if len(rest) > 1 else None
        if last.tag in _CLOSING or last.tag == "Z_CODA":
            rest.pop()
        elif last.tag == "JKV" and before is not None:
            del rest[-2:]
        elif before is not None and before.tag in ("EF", "EC") and last.form in ("만", "롱", "염"):
            rest.pop()  # -습니다만, -지롱: the level is decided by what stands before
        else:
            break
    return rest


def _level(last: Any) -> SpeechLevel:
    if last.tag in ("JX", "IC", "EF", "EC") and last.form.endswith(("요", "죠")):
        return "haeyo"
    if last.tag not in ("EF", "EC"):
        return "other"
    return "hapsyo" if _FORMAL.search(last.form) else "banmal"


def _clean(text: str) -> str:
    return _ADORNMENT.sub(" ", text.replace(USER_MACRO, "민준")).strip()


@lru_cache(maxsize=1)
def shared() -> SpeechClassifier:
    """The process's classifier."""
    return SpeechClassifier()


def judge_reply(text: str, policy: SpeechPolicy, classifier: SpeechClassifier) -> Verdict:
    """Whether a whole reply keeps the character's level; only a clear shift is noted."""
    counts = classifier.count(text)
    if counts.of_language(policy.level) < policy.min_sentences or counts.ratio(policy.level) >= policy.min_ratio:
        return Verdict.ok()
    return Verdict(allowed=policy.mode != "block", category="out_of_persona", rule=f"not-{policy.level}")
