"""Language policy, told by script: a character answers in its own languages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import regex

from core.contracts import USER_MACRO
from data_pipelines.rows import Row
from data_pipelines.stages.base import Outcome, RowStage

_SCRIPTS = {
    "hangul": regex.compile(r"\p{Hangul}"),
    "kana": regex.compile(r"[\p{Hiragana}\p{Katakana}]"),
    "han": regex.compile(r"\p{Han}"),
    "latin": regex.compile(r"\p{Latin}"),
}
_LETTER = regex.compile(r"\p{L}")
_OF_LANGUAGE = {"ko": {"hangul"}, "ja": {"kana", "han"}, "en": {"latin"}}
_FOREIGN_SHARE = 0.1
_LATIN_SHARE = 0.6
"""Latin words (STELLA, VPN) are borrowed everywhere, so more of them is let through."""


def scripts(text: str) -> Counter[str]:
    """Letters by script; ``other`` for scripts that no character writes."""
    counts = Counter({name: len(pattern.findall(text)) for name, pattern in _SCRIPTS.items()})
    counts["other"] = len(_LETTER.findall(text)) - counts.total()
    return +counts


def language(languages: Sequence[str]) -> RowStage:
    """Drops rows whose replies are in another language; fans may write in any of the three."""
    allowed = {script for name in languages for script in _OF_LANGUAGE.get(name, {"other"})}

    def stage(row: Row) -> Outcome:
        if any(_share(scripts(text), {"other"}) > _FOREIGN_SHARE for text in row.texts("user")):
            return Outcome.drop("unknown script")
        for text in row.texts("assistant"):
            found = scripts(text.replace(USER_MACRO, ""))
            if _share(found, set(found) - allowed - {"latin"}) > _FOREIGN_SHARE:
                return Outcome.drop("foreign script in a reply")
            if "latin" not in allowed and _share(found, {"latin"}) > _LATIN_SHARE:
                return Outcome.drop("reply in Latin letters")
        return Outcome.keep(row)

    return stage


def _share(counts: Counter[str], of: set[str]) -> float:
    return sum(counts[name] for name in of) / max(1, counts.total())
