"""Whether a line asks for something at all: what is only told or felt needs no passage of a document.

A small model talks about whatever passage it is shown. Rules, generous on the side of asking: what is taken for a
question by mistake costs an unfitting passage, what is missed costs the answer.
"""

from __future__ import annotations

import re

from memory.lexical import ends_in_noun

_KO = (
    r"뭐|뭘|무슨|무엇|누구|누가|언제|어디|어느|어떤|어떻게|얼마|몇|며칠|왜|인가|나요|는지|은지|알려|말해|설명|소개|궁금|가르쳐|추천"
    r"|알아|줄래|까요?[\s.!~]*$"
)
_JA = r"とは|何|なに|どこ|いつ|誰|だれ|どう|どの|どれ|なぜ|いくつ|いくら|か[。?？]?$|教えて|知りたい"
_EN = r"\b(?:what|who|when|where|which|how|why|tell|is|are|do|does|can)\b"
_ASKS = re.compile(rf"[?？]|{_KO}|{_JA}|{_EN}", re.IGNORECASE)
_HANGUL = re.compile("[가-힣]")
_TOLD_JA = re.compile(r"(?:です|ます|[ただよねなるいう])[。!！~〜w笑 ]*$")
_LEAST_CHARS = 4
"""A single short noun ("안녕", "밥") is talk."""


def asks_something(text: str) -> bool:
    """Whether ``text`` may want to know something; a heading-like noun phrase ("3집 타이틀곡") does."""
    line = text.strip()
    if _ASKS.search(line):
        return True
    if _HANGUL.search(line):
        return len(line) >= _LEAST_CHARS and ends_in_noun(line)
    return _TOLD_JA.search(line) is None
