"""Words that do not exist, put where a real one could stand, so that a model learns to copy instead of recalling."""

from __future__ import annotations

import random
import re
from functools import lru_cache

FIRST_SYLLABLE, LAST_SYLLABLE, FINALS = 0xAC00, 0xD7A3, 28
HIRAGANA = "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわ"
KATAKANA = "アイウエオカキクケコサシスセソタチツテトナニヌネノハヒフヘホマミムメモヤユヨラリルレロワン"
KANJI = "山川田本木林森花月星空海風雪雨春夏秋冬青白赤金銀北南東西上中下大小高石水火土竹松梅桜島村町町野原谷"


def made_up_like(value: str, rng: random.Random) -> str:
    """A random word of the same kind: digits for digits, Hangul that takes the same particles, kana for kana."""
    if value.isdigit():
        return value  # a bare number is a day, a month or a count, and its slot has enough of them
    if any(char.isdigit() for char in value):
        return re.sub(r"\d+", lambda match: _number(match[0], rng), value)
    if value and is_hangul(value[-1]):
        return _hangul_word(value, rng)
    if value and (is_kana(value[-1]) or is_kanji(value[-1])):
        return _japanese_word(value, rng)
    return value


def is_hangul(char: str) -> bool:
    return FIRST_SYLLABLE <= ord(char) <= LAST_SYLLABLE


def is_kana(char: str) -> bool:
    return "ぁ" <= char <= "ヿ"


def is_kanji(char: str) -> bool:
    return "一" <= char <= "鿿"


def has_final(syllable: str) -> bool:
    """Whether a Hangul syllable ends in a consonant, which decides its particles."""
    return (ord(syllable) - FIRST_SYLLABLE) % FINALS != 0


def ends_closed(word: str) -> bool:
    """Whether a word is spoken with a consonant at its end; digits as they are read in Korean."""
    last = word.rstrip("'\"」』)")[-1:]
    return has_final(last) if last and is_hangul(last) else last in ("0", "1", "3", "6", "7", "8")


def ends_in_rieul(word: str) -> bool:
    """Whether a word is spoken with ㄹ at its end."""
    last = word.rstrip("'\"」』)")[-1:]
    return last in "178" if last.isdigit() else "가" <= last <= "힣" and (ord(last) - ord("가")) % 28 == 8


def _number(digits: str, rng: random.Random) -> str:
    return str(rng.randint(1, 9)) + "".join(str(rng.randint(0, 9)) for _ in digits[1:])


def _hangul_word(value: str, rng: random.Random) -> str:
    length = rng.choice((2, 2, 3, 3, 4))
    closed = has_final(value[-1])
    syllables = common_syllables() if rng.random() < 0.4 else plain_syllables()
    body = "".join(rng.choice(syllables) for _ in range(length - 1))
    return body + rng.choice([char for char in syllables if has_final(char) == closed])


def _japanese_word(value: str, rng: random.Random) -> str:
    alphabet = KANJI if is_kanji(value[-1]) else KATAKANA if "ァ" <= value[-1] <= "ヿ" else HIRAGANA
    return "".join(rng.choice(alphabet) for _ in range(rng.choice((2, 3, 3, 4))))


@lru_cache
def common_syllables() -> tuple[str, ...]:
    """Syllables that made-up words are built from: the everyday ones without rare endings."""
    plain_finals = {0, 1, 4, 8, 16, 17, 19, 21}
    chars = [bytes((row, cell)).decode("euc-kr") for row in range(0xB0, 0xC9) for cell in range(0xA1, 0xFF)]
    return tuple(char for char in chars if (ord(char) - FIRST_SYLLABLE) % FINALS in plain_finals)


@lru_cache
def plain_syllables() -> tuple[str, ...]:
    """The part of ``common_syllables`` that names are mostly made of: single consonants, simple vowels."""
    doubled, plain_vowels = {1, 4, 8, 10, 13}, {0, 1, 4, 6, 8, 12, 13, 17, 18, 20}
    return tuple(
        char
        for char in common_syllables()
        if (ord(char) - FIRST_SYLLABLE) // (21 * FINALS) not in doubled
        and (ord(char) - FIRST_SYLLABLE) // FINALS % 21 in plain_vowels
    )
