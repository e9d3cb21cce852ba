"""Is the reply in the language it should be in? Told by script, with room for names and titles."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from evaluation.scorers.finding import HOLDS, NOT_JUDGED, Finding, broken

Script = Literal["hangul", "kana", "han", "latin", "other"]

MAIN_SHARE = 0.5
"""Of the letters so many are in the language's own script."""

STRAY_SHARE = 0.1
"""Of the letters at most so many are in a script that the language has no use for."""

# One Hangul syllable says about what two or three Latin letters say.
_LATIN_WEIGHT = 0.4


def scripts(text: str) -> Counter[Script]:
    """Letters of ``text`` by script."""
    return Counter(_script(char) for char in text if char.isalpha())


def _script(char: str) -> Script:
    name = unicodedata.name(char, "")
    if name.startswith("HANGUL"):
        return "hangul"
    if name.startswith(("HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA")) or char == "ー":
        return "kana"
    if name.startswith("CJK"):
        return "han"
    return "latin" if name.startswith(("LATIN", "FULLWIDTH LATIN")) else "other"


def in_language(text: str, languages: Sequence[str]) -> Finding:
    """Whether ``text`` is in one of ``languages`` (``ko``, ``ja``, ``en``)."""
    count = scripts(text)
    if sum(count.values()) < 2:
        return NOT_JUDGED
    if any(_fits(count, language) for language in languages):
        return HOLDS
    return broken(f"not {'/'.join(languages)}: " + ", ".join(f"{n} {script}" for script, n in count.most_common()))


def _fits(count: Counter[Script], language: str) -> bool:
    weight = {script: number * (_LATIN_WEIGHT if script == "latin" else 1.0) for script, number in count.items()}
    total = sum(weight.values())
    kana, han, hangul = weight.get("kana", 0), weight.get("han", 0), weight.get("hangul", 0)
    main, stray = {
        "ko": (hangul, kana + han),
        "ja": (kana + han if kana else 0, hangul),
        "en": (weight.get("latin", 0), 0),
    }.get(language, (0.0, total))
    return main >= MAIN_SHARE * total and stray + weight.get("other", 0) <= STRAY_SHARE * total
