"""Finding what a fan asks back for: "내가 뭐 배운다고 했지?" is answered by a line that they said themselves.

A large model finds the line in its prompt; a small one is shown it alone, right before the question. Rules and
shared words, no model: the lines are few and the answer must not wait.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from core.contracts import USER_MACRO, Message
from memory.lexical import is_japanese, nouns, terms

MOST_CHARS = 60
"""Longer lines are no single fact; they stay in the history and in summaries."""

_FIRST = r"(?:내|제|나|나는|난|내가|제가|저|전|저는|우리|나의|저의)"
_NAMED = r"이름(?![은이]? ?[^?\s]{1,12}(?:야|에요|예요|임|래|래요|입니다|거든|거든요|라고|고|인데|다)(?![가-힣?]))"
"""A name that is asked for, not told ("이름은 뿌꾸야")."""
_WHAT = rf"(?:뭐|뭘|뭔|무슨|무엇|누구|누군|언제|어디|어느|어떤|며칠|몇|{_NAMED})"
_ASKS_BACK_KO = (
    r"기억[은도]? ?(?:하(?!게)|해(?! ?[줘주둬])|나|못|안)|까먹(?!지)|까묵|안 잊|생각나\?"
    r"|뭐였|뭐더라|뭐랬|뭐라[고구]? ?(?:했|그랬|적어)"
    rf"|{_WHAT}.{{0,20}}(?:더라|랬|댔|라며|(?:였|이었)[지죠])|(?:했|랬|댔|였)더라|{_WHAT}라고\?"
    r"|(?:다고|라고|다|라) ?(?:했|그랬|말했|말씀드렸)(?:지|죠|게|어\?|더라|는지|나)"
    r"|맞[혀춰] ?[봐보]|맞히면|퀴즈[!. ]|^문제[!.]"
    rf"|{_WHAT}.{{0,20}}게[\s?!~ㅋㅎㅠ]*$|{_WHAT}.{{0,14}}지 ?알|누구게|(?:말해|대|불러|읊어) ?(?:봐|보세요|보라)"
    rf"|(?:^|\s){_FIRST}\s.{{0,24}}{_WHAT}|(?:^|\s){_FIRST}\s.{{1,20}}(?:(?<!거 )알[지죠아]|아시죠|외웠|[은는]\?)"
    r"|다시 (?:말|알려|불러)|아까 말한"
)
_ASKS_BACK_JA = (
    r"覚え(?:て|た)(?:る|ます|い|\?|？)|おぼえて|忘れ(?:て|た|ちゃ)|っけ|言った(?:よね|か|で|[?？])|言いました|話した(?:よね|で|じゃ)"
    r"|お話ししました|お伝えし|もう一度|さっき|先ほど|当てて|クイズ|問題です|なーんだ|(?:何|なん|誰|どこ|いつ|どれ)(?:でしょう|だった|でした)"
    r"|(?:私|わたし|僕|俺|うち).{1,24}(?:何|なに|なんの|なんて|どこ|いつ|誰|どの|どれ|いくつ|わか|分か|知って|言え|は[?？])"
    r"|(?:何|なん|どこ|いつ|名|原因).{0,8}(?:わか|分か)る|言ってみて|言える[?？]|知って(?:る|ます)"
)
_ASKS_BACK_EN = r"\bremember\b|\bdid i (?:say|tell)\b|\bi told you\b|\bwhat(?:'s| is| was) my\b|\bguess\b"
_ASKS_BACK = re.compile(f"{_ASKS_BACK_KO}|{_ASKS_BACK_JA}|{_ASKS_BACK_EN}", re.IGNORECASE)
_ASKS_NUMBER = re.compile(
    r"몇|며칠|언제|얼마|번호|何[日時月年歳匹人回個本枚冊]|いくつ|いつ|日付|\bhow many\b|\bwhen\b", re.IGNORECASE
)
_NUMBER = re.compile(r"\d|[한두세네] ?(?:시|살|개|명|마리)|열|스물|[一二三四五六七八九十](?:時|日|月|匹|人|回|歳|個)")
_TAIL = re.compile(r"(?:[\sㅋㅎㅠㅜwW笑泣~〜!！.…。,、^;]|\(笑\))+$")
_QUESTION = re.compile(r"[?？][\sㅋㅎㅠㅜw~!]*$|(?:까요?|나요|을래|니|냐)[\sㅋㅎㅠㅜ~]*$")
_PRIVATE = re.compile(r"\d[\d\- ]{6,}\d|\S+@\S+|https?://|주민|계좌|비밀번호|パスワード")
_OWN_NAME = re.compile(
    rf"{_FIRST} 이름|{re.escape(USER_MACRO)}|名前は(?!「)|と申し|\bmy name\b|\bcall me\b", re.IGNORECASE
)
_ASKS_OWN_NAME = re.compile(
    r"(?:^|\s)(?:내|제|나의|저의) 이름|(?:私|わたし|僕|ぼく|俺|うち)の(?:名前|なまえ)|\bmy name\b", re.IGNORECASE
)


def asks_back(text: str) -> bool:
    """Whether the fan may be asking for something that they told. Generous: a line must fit, too."""
    return _ASKS_BACK.search(text) is not None


def said_line(text: str) -> str:
    """A fan's line as it is quoted: one line, without the laughter at its end."""
    return _TAIL.sub("", " ".join(text.split()))


def is_statement(text: str) -> bool:
    """Whether a line tells something: no question, nothing private, neither a word nor an essay."""
    line = said_line(text)
    unfit = _PRIVATE.search(line) or _OWN_NAME.search(line) or _QUESTION.search(text) or asks_back(line)
    return 4 <= len(line) <= MOST_CHARS and not unfit


def worth_keeping(said: Iterable[str]) -> list[str]:
    """The statements that name a thing, as memories in the fan's own words."""
    lines = dict.fromkeys(said_line(text) for text in said if is_statement(text) and _names_a_thing(text))
    return [f"{USER_MACRO}: {line}" for line in lines]


def in_own_words(memory: str) -> str:
    """A memory that ``worth_keeping`` made, as the fan said it; any other memory as it is."""
    return memory.removeprefix(f"{USER_MACRO}: ")


def recalled(question: str, lines: Sequence[str], most: int) -> list[str]:
    """The ``lines`` that answer ``question``, best first; empty when none shares a word with it.

    A shared word weighs more the fewer lines hold it; to a question for a number, a number weighs as much as a
    word. Among equals the later line counts.
    """
    every = list(dict.fromkeys(lines))
    if not every or not most:
        return []
    words = [_words(line) for line in every]
    frequency = Counter(word for held in words for word in held)
    wanted, number = _words(question), _ASKS_NUMBER.search(question) is not None

    def fit(index: int) -> float:
        shared = sum(math.log(1 + len(every) / frequency[word]) for word in wanted & words[index])
        return shared + (number and _NUMBER.search(every[index]) is not None)

    fits = [(fit(index), index) for index in range(len(every))]
    ranked = sorted((pair for pair in fits if pair[0] > 0), reverse=True)[:most]
    return [every[index] for _, index in ranked]


@dataclass(frozen=True, slots=True)
class ToldLines:
    """What a question for something told may be answered with, in the order in which it was told."""

    facts: tuple[str, ...] = ()
    """Lines of the profile and sentences of memories."""
    said: tuple[str, ...] = ()
    """In the fan's own words."""

    @property
    def every(self) -> list[str]:
        return list(dict.fromkeys((*self.facts, *self.said)))


def told_lines(
    question: str, profile: Sequence[str], memories: Sequence[str], history: Sequence[Message]
) -> ToldLines:
    """The lines among which the answer to ``question`` may stand.

    The line with the fan's name is left out: it shares a word with questions for anybody's name. Who asks for their
    own name needs no line at all: the character calls fans by name anyway.
    """
    if _ASKS_OWN_NAME.search(question):
        return ToldLines()
    facts = [*(line for line in profile if USER_MACRO not in line), *(text for text in memories if not _own(text))]
    said = [said_line(item.content) for item in history if item.role == "user" and is_statement(item.content)]
    return ToldLines(tuple(facts), (*(in_own_words(text) for text in memories if _own(text)), *said))


def _own(memory: str) -> bool:
    return memory.startswith(f"{USER_MACRO}: ")


def _words(text: str) -> set[str]:
    """Morphemes and pairs of neighbouring characters: 슬랙라인 and 슬랙 meet in the latter."""
    written = re.findall(r"[가-힣A-Za-z0-9]+", text.lower())
    return {*terms(text), *(f"~{word[at : at + 2]}" for word in written for at in range(len(word) - 1))}


def _names_a_thing(text: str) -> bool:
    if is_japanese(text):
        return re.search(r"[一-鿿々]{2,}|[ァ-ヺー]{2,}", text) is not None
    return bool(re.search(r"\d|[A-Za-z]{2,}", text)) or any(len(noun) > 1 for noun in nouns(text))
