"""One canonical form of text for matching, with a way back to the original positions.

Writers dodge word filters with full-width letters, zero-width characters, split Hangul (``ㅅㅣ발``), fillers
(``시1발``, ``씨.발``, ``시ㅡ발``), look-alike letters and stretched characters. The canonical form undoes these,
so that a policy is written once, in plain lower-case spelling.

The form is *streamable*: cutting the text at a place where :func:`is_boundary` holds and normalising the
first part gives a prefix of the normalised whole. The hold-back window depends on that.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

_INITIALS = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
_VOWELS = "ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ"
_FINALS = "ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ"
_CONJOINING = {
    **{0x1100 + i: c for i, c in enumerate(_INITIALS)},
    **{0x1161 + i: c for i, c in enumerate(_VOWELS)},
    **{0x11A8 + i: c for i, c in enumerate(_FINALS)},
}
_LOOKALIKES = str.maketrans("аеіорсухһѕԁјαεικνορτυı", "aeiopcyxhsdjaeikvoptui")
_INVISIBLE = {0x115F, 0x1160, 0x3164, 0xFFA0, 0x034F}  # Hangul fillers and the grapheme joiner
_LEET = dict(zip("0134578$@!|€", "oieastbsaiie", strict=True))

_JAMO = re.compile(f"([{_INITIALS}])([{_VOWELS}])(?:([{_FINALS}])(?![{_VOWELS}]))?")
_REPEAT = re.compile(r"(\S)\1{2,}")
_SPACE = re.compile(r"\s+")
_FILLER = re.compile(rf"(?<=[가-힣])(?:[{_VOWELS}!\"#$%&'*+,\-./:;<=>?@\\^_`|~·ㆍ・…♡♥★☆]{{1,3}}|\d)(?=[가-힣])")
_LEET_LETTER = re.compile(r"(?<=[a-z])[0134578$@!|€](?=[a-z])")
_WORD = re.compile(r"[가-힣a-zA-Z\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fff]")


@dataclass(frozen=True, slots=True)
class Normalised:
    """Canonical text and, for each of its characters, where it begins in the original."""

    text: str
    starts: tuple[int, ...]
    length: int

    def original(self, index: int) -> int:
        """Where the character ``index`` of the canonical text begins in the original."""
        return self.starts[index] if index < len(self.starts) else self.length

    def index_of(self, original: int) -> int:
        """The first canonical character that begins at or after ``original``."""
        return next((i for i, start in enumerate(self.starts) if start >= original), len(self.starts))


class _Draft:
    """Characters with their origins, rewritten step by step."""

    def __init__(self, chars: list[str], starts: list[int]) -> None:
        self.chars = chars
        self.starts = starts

    def rewrite(self, pattern: re.Pattern[str], replace: Callable[[re.Match[str]], str]) -> None:
        """Replace matches by something no longer than them; a replacement keeps the first origins."""
        matches = list(pattern.finditer("".join(self.chars)))
        for match in reversed(matches):
            new = replace(match)
            self.chars[match.start() : match.end()] = new
            self.starts[match.start() : match.end()] = self.starts[match.start() : match.start() + len(new)]


def normalise(text: str) -> Normalised:
    """The canonical form of ``text``."""
    draft = _fold(text)
    draft.rewrite(_JAMO, _compose)
    draft.rewrite(_SPACE, lambda match: " ")
    draft.rewrite(_REPEAT, lambda match: match.group()[:2])
    draft.rewrite(_FILLER, lambda match: "")
    draft.rewrite(_LEET_LETTER, lambda match: _LEET[match.group()])
    return Normalised("".join(draft.chars), tuple(draft.starts), len(text))


def is_boundary(text: str, position: int) -> bool:
    """Whether ``text`` may be cut here without changing what stands before in canonical form."""
    left, right = text[position - 1], text[position]
    if right.isspace():
        return True
    return bool(_WORD.match(right)) and (left.isspace() or left in "。、" or bool(_WORD.match(left)))


def _fold(text: str) -> _Draft:
    """Width, case, look-alikes and invisible characters; one entry per resulting character."""
    draft = _Draft([], [])
    start = 0
    while start < len(text):
        end = start + 1
        while end < len(text) and _joins(text[end]):
            end += 1
        folded = _fold_cluster(text[start:end])
        draft.chars.extend(folded)
        draft.starts.extend([start] * len(folded))
        start = end
    return draft


@lru_cache(maxsize=8192)
def _fold_cluster(cluster: str) -> str:
    if "\u3131" <= cluster <= "\u318e":  # NFKC would turn compatibility jamo into initials only
        return "" if ord(cluster[0]) in _INVISIBLE else cluster
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", cluster).casefold())
    folded = "".join(_CONJOINING.get(ord(c), c) for c in folded)
    return "".join(c for c in folded if not _is_invisible(c)).translate(_LOOKALIKES)


def _is_invisible(char: str) -> bool:
    if ord(char) in _INVISIBLE:
        return True
    return unicodedata.category(char) in ("Cf", "Cc", "Mn") and not char.isspace()


def _joins(char: str) -> bool:
    return char in "ﾞﾟ" or unicodedata.combining(char) != 0


def _compose(match: re.Match[str]) -> str:
    initial, vowel, final = match.groups()
    index = _INITIALS.index(initial) * 588 + _VOWELS.index(vowel) * 28
    return chr(0xAC00 + index + (_FINALS.index(final) + 1 if final else 0))
