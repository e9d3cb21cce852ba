"""How people type: the same line in a hurry, with other little words, or in 해요체."""

from __future__ import annotations

import random
import re

CASUAL_TAILS = ("ㅋㅋ", "ㅋㅋㅋ", "ㅎㅎ", "~", "!", "..", "ㅠ")
SAD_TAILS = ("ㅠㅠ", "ㅠ", "ㅜㅜ", "...", "…")
OPENERS = ("있잖아 ", "근데 ", "아 맞다 ", "저기 ", "아니 ", "혹시 ")
SAME = (
    ("진짜", "정말", "완전"),
    ("너무", "엄청", "되게"),
    ("요즘", "요새"),
    ("지금", "방금"),
    ("뭐라고", "뭐라"),
    ("좀", "조금"),
)
"""Little words that stand for each other."""

POLITE = (
    (re.compile(r"이야$"), "이에요"),
    (re.compile(r"(?<=[뭐거])야$"), "예요"),
    (re.compile(r"구나$"), "군요"),
    (re.compile(r"(?:니|냐)$"), "나요"),
    (re.compile(r"지$"), "죠"),
    (re.compile(r"(거든|[는은던]데|[네까게래어아해여워와봐줘돼써져쳐춰려켜셔])$"), r"\1요"),
)
"""Endings of 반말 and what they are in 해요체; the first that fits counts."""

END_MARKS = re.compile(r"[\s.!?~…ㅋㅎㅠㅜ]*$")


def typed_in_a_hurry(line: str, category: str, playful: bool, rng: random.Random) -> str:
    """``line`` with a tail, without a blank, or with an opener; ``playful`` allows ㅋㅋ and ㅠㅠ."""
    text = line.rstrip(".!?~ ") or line
    chance = rng.random()
    if playful and chance < 0.45:
        return text + rng.choice(SAD_TAILS if category == "empathy" else CASUAL_TAILS)
    if playful and chance < 0.6:
        return rng.choice(OPENERS) + line
    if chance < 0.75:
        return reworded(line, rng)
    blanks = [index for index, char in enumerate(text) if char == " "]
    if blanks and chance < 0.9:
        position = rng.choice(blanks)
        return text[:position] + text[position + 1 :]
    return text


def reworded(line: str, rng: random.Random) -> str:
    """``line`` with the first little word that has a double replaced by one of its doubles."""
    for group in SAME:
        for word in group:
            if re.search(rf"(?<![가-힣]){word}(?![가-힣])", line):
                other = rng.choice([double for double in group if double != word])
                return re.sub(rf"(?<![가-힣]){word}(?![가-힣])", other, line, count=1)
    return line


def in_haeyo(line: str) -> str:
    """A line of 반말 in 해요체; unchanged when its ending is none that changes by rule."""
    body = END_MARKS.sub("", line)
    marks = line[len(body) :]
    for pattern, polite in POLITE:
        changed, count = pattern.subn(polite, body)
        if count:
            return changed + marks
    return line
